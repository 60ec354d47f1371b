"""What a conversion prints."""

from dataclasses import replace
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as T

from converter.plan import TensorPlan
from converter.report.display import ConversionDisplay, summary_lines, tensor_line
from converter.report.records import ConversionReport, TensorRecord
from gguf_files.tensors import TensorInfo

WEIGHT = TensorRecord(TensorPlan(TensorInfo("blk.0.ffn_up.weight", (128, 8), T.F16), T(164), "weight"), 100.0, 1.0, 0.5)
NORM = TensorRecord(
    TensorPlan(TensorInfo("blk.0.ffn_norm.weight", (128,), T.F32), T.F32, "one-dimensional"), 0.0, 0.0, 0.0
)
ODD = TensorRecord(
    TensorPlan(TensorInfo("blk.0.odd.weight", (96, 8), T.F16), T.Q8_0, "rows of 96 do not fit", True), 100.0, 0.001, 0.1
)
REPORT = ConversionReport(Path("m.gguf"), (WEIGHT, NORM, ODD), 4 * 2**20, 2**20, 1.25)


def test_a_line_says_what_became_of_a_tensor() -> None:
    line = tensor_line(WEIGHT)
    for part in ("blk.0.ffn_up.weight", "[128, 8]", "eoq4", "4.125 bpw", "-20.00 dB", "0.50 s"):
        assert part in line
    assert "kept" not in line
    assert "dB" not in tensor_line(NORM) and "kept: one-dimensional" in tensor_line(NORM)
    assert "q8_0" in tensor_line(ODD) and tensor_line(ODD).endswith("rows of 96 do not fit")


def test_the_summary_has_sizes_types_and_what_fell_back() -> None:
    lines = summary_lines(REPORT)
    bits = 8 * (8 * 66 + 512 + 8 * 3 * 34) / (128 * 8 + 128 + 96 * 8)
    assert f"m.gguf: 1.0 MiB, 25.0 % of the source's 4.0 MiB; {bits:.3f} bits a weight over 1,920 weights" in lines
    assert "tensors: 1 eoq4, 1 f32, 1 q8_0" in lines
    assert "note: 1 tensor became q8_0: rows of 96 do not fit" in lines
    assert not any(line.startswith("read back") for line in lines)
    said = summary_lines(replace(REPORT, read_back="llama.cpp reads every block"))
    assert "read back: the same as what was written; llama.cpp reads every block" in said


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with ConversionDisplay() as display:
        display.stage("quantising", 1000)
        display.advance(500)
        display.tensor_done(WEIGHT, 3, 12)
    display.summary(REPORT)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "quantising …"
    assert lines[1] == f"[ 3/12] {tensor_line(WEIGHT)}"
    assert len(lines) == 2 + len(summary_lines(REPORT))
