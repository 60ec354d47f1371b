"""Calibrated conversions of a tiny model: what is written, reported, reused and refused."""

import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest

from bench.quality.ablation_calibration import write_imatrix
from converter import (
    Budget,
    BudgetRequest,
    CalibrationOptions,
    CalibrationText,
    ConversionOptions,
    ConversionReport,
    RoundingOptions,
    SourceAccess,
    TypeOptions,
    convert,
)
from converter.errors import CalibrationError, StatisticsError
from converter.release import ReleaseProgress, make_release
from converter.statistics import open_statistics
from eoq_formats.gguf_registration import register
from gguf_files.source import open_gguf
from inspection.verify import verify
from terminal.progress import Progress
from tests.integration.converter.command_line import assert_refused, run_calibrated
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.samples.tiny_models import write_model

register()
pytestmark = pytest.mark.llama_cpp

TOKENS = 2048


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("\n".join(f"the model number {i} answers {i * i} questions about {i % 7}" for i in range(2000)))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, llama_source: Path) -> Path:
    """A qwen3 with tied embeddings, as F32 GGUF."""
    folder = tmp_path_factory.mktemp("model")
    write_model("qwen3", folder / "hf")
    access = SourceAccess(llama_dir=llama_source)
    f32 = ConversionOptions(TypeOptions(tensor_types=(".=f32",)), source=access)
    convert(folder / "hf", folder / "f32.gguf", f32)
    shutil.rmtree(folder / "hf")
    return folder / "f32.gguf"


def options(
    text: Path, type: str = "eoq4", rounding: RoundingOptions | None = None, statistics: Path | None = None
) -> ConversionOptions:
    calibration = CalibrationOptions(texts=(CalibrationText(text),), tokens=TOKENS, sequence_length=128)
    return ConversionOptions(TypeOptions(type), rounding or RoundingOptions(), statistics, calibration)


@pytest.fixture(scope="module")
def by_methods(source: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, ConversionReport]:
    """Reports of conversions to EOQ3 by each combination of stages, all from one file of statistics."""
    folder = tmp_path_factory.mktemp("methods")
    reports = {}
    for awq in (False, True):
        for rounding in ("nearest", "feedback"):
            name = "+".join(["awq"] * awq + [rounding])
            statistics = folder / "s.stats" if awq or rounding == "feedback" else None
            chosen = options(text, "eoq3", RoundingOptions(rounding, awq), statistics)
            reports[name] = convert(source, folder / f"{name}.gguf", chosen)
    return reports


def read_json(report: ConversionReport) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(report.path.read_text())
    return loaded


def test_every_tensor_is_rounded_with_feedback_and_never_worse(by_methods: dict[str, ConversionReport]) -> None:
    for name in ("feedback", "awq+feedback"):
        quantised = [r for r in by_methods[name].records if not r.plan.is_copy]
        assert len(quantised) == 2 * 7 + 1
        for record in quantised:
            assert record.method == "feedback" and record.weighted is not None and record.damping > 0
            errors = record.weighted
            assert errors.final <= errors.feedback <= errors.nearest and math.isfinite(errors.final)
            assert errors.final < 0.9 * errors.nearest, record.plan.tensor.name


def test_scales_are_kept_only_where_they_help(by_methods: dict[str, ConversionReport]) -> None:
    for name in ("awq+nearest", "awq+feedback"):
        report = by_methods[name]
        assert len(report.folds) == 2 * 4
        for fold in report.folds:
            if not fold.is_identity:
                assert fold.error_before is not None and fold.error_after is not None
                assert fold.error_after < fold.error_before and 0 < fold.smallest < fold.largest
    assert any(not fold.is_identity for fold in by_methods["awq+nearest"].folds)
    assert by_methods["nearest"].folds == () and by_methods["nearest"].statistics is None


def test_the_report_beside_the_file_says_it_all(by_methods: dict[str, ConversionReport]) -> None:
    report = by_methods["awq+feedback"]
    found = read_json(report)
    assert (found["file"], found["method"]) == ("awq+feedback.gguf", "awq+error-feedback")
    assert found["options"] == ["type=eoq3", "rounding=feedback", "awq=on", "shrinkage=auto", "damping=0.02"]
    assert f"{TOKENS // 128} sequences of 128 tokens" in found["statistics"] and "/" not in found["statistics"]
    assert set(found["seconds_by_stage"]) == {"reading the model", "calibrating", "scaling", "rounding and writing"}
    assert found["total_output_error"]["final"] < found["total_output_error"]["nearest"]
    assert len(found["tensors"]) == len(report.records) and len(found["folds"]) == 8
    (down,) = [t for t in found["tensors"] if t["name"] == "blk.1.ffn_down.weight"]
    assert (down["type"], down["method"], down["bits_per_weight"]) == ("eoq3", "feedback", 3.125)
    assert 0 < down["output_error"]["final"] < down["output_error"]["nearest"] < 1
    (norm,) = [t for t in found["tensors"] if t["name"] == "blk.1.attn_norm.weight"]
    assert norm["method"] == "copy" and "error" not in norm


def test_metadata_names_method_and_text(by_methods: dict[str, ConversionReport]) -> None:
    fields = gguf.GGUFReader(by_methods["awq+feedback"].target).fields
    assert fields["eoq.method"].contents() == "awq+error-feedback"
    assert "text.txt" in str(fields["eoq.calibration"].contents())


def test_every_file_verifies_against_its_source_with_the_errors_of_its_report(
    source: Path, by_methods: dict[str, ConversionReport]
) -> None:
    """Scales are found again but for what rounding hides of them."""
    for name, report in by_methods.items():
        found = verify(open_gguf(report.target), 2, Progress(), open_gguf(source))
        assert found.faults == () and found.has_checksums
        errors = {c.tensor.name: c.error for c in found.compared.comparisons}
        assert len(errors) == len(report.records)
        for record in report.records:
            if not record.plan.is_copy:
                rounded = record.error / record.signal
                close = 0.05 if "awq" in name else 1e-5
                assert errors[record.plan.tensor.name] == pytest.approx(rounded, rel=close), record.plan.tensor.name


def test_statistics_that_are_kept_give_the_same_file_as_those_made_on_the_way(
    source: Path, text: Path, by_methods: dict[str, ConversionReport], tmp_path: Path
) -> None:
    fresh = convert(source, tmp_path / "fresh.gguf", options(text, "eoq3", RoundingOptions(awq=True)))
    assert fresh.target.read_bytes() == by_methods["awq+feedback"].target.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh.gguf", "fresh.report.json"]


def test_statistics_of_another_model_are_refused(
    source: Path, text: Path, by_methods: dict[str, ConversionReport], tmp_path: Path
) -> None:
    statistics = by_methods["feedback"].target.with_name("s.stats")
    other = tmp_path / "other.gguf"
    data = bytearray(source.read_bytes())
    data[-1000:] = bytes(1000)
    other.write_bytes(data)
    with pytest.raises(StatisticsError, match=r"s\.stats"):
        convert(other, tmp_path / "m.gguf", options(text, statistics=statistics))
    assert [path.name for path in tmp_path.iterdir()] == ["other.gguf"]


def test_a_model_that_llama_cpp_cannot_run_names_the_ways_out(text: Path, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    with pytest.raises(CalibrationError, match=r"--imatrix FILE .*--rtn"):
        convert(source, tmp_path / "m.gguf", options(text))
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_nothing_to_quantise_needs_no_calibration(tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    report = convert(source, tmp_path / "m.gguf", ConversionOptions(TypeOptions(tensor_types=(".=q8_0",))))
    assert report.method == "rtn" and report.statistics is None


def test_the_command_line_from_folder_to_file(tmp_path: Path, text: Path, llama_source: Path) -> None:
    write_model("llama", tmp_path / "model")
    out = tmp_path / "out"
    out.mkdir()
    arguments = (tmp_path / "model", out / "m.gguf", "--llama-dir", llama_source, "--calib", text)
    calibration = ("--calib-tokens", "1024", "--calib-length", "64")
    done = run_calibrated(*arguments, *calibration, "--table", "--damping", "0.05", "--awq", "on")
    assert (done.returncode, done.stderr) == (0, "")
    for line in ("calibrating …", "scaling (AWQ) …", "quantising …"):
        assert line in done.stdout
    assert "statistics: text.txt, 16 sequences of 64 tokens" in done.stdout and "scales (AWQ): " in done.stdout
    (row,) = [line for line in done.stdout.splitlines() if line.startswith("blk.0.ffn_up.weight") and "bpw" not in line]
    weights, nearest, feedback, final, damping = [float(x) for x in row.split()[2:7]]
    assert final <= feedback <= nearest < -10 and weights < -10 and damping == 0.05
    assert sorted(path.name for path in out.iterdir()) == ["m.gguf", "m.report.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--imatrix", "missing.gguf"], "the imatrix missing.gguf does not exist"),
        (["--calib", "missing.txt"], "missing.txt"),
        (["--damping", "0"], "damping must be above 0"),
        (["--shrinkage", "2"], "shrinkage must be at least 0 and at most 1"),
        (["--calib-tokens", "3"], "3 calibration tokens are less than one sequence"),
        (["--device", "nonsense"], "nonsense"),
        (["--device", "meta"], "PyTorch cannot use the device 'meta' here"),
        (["--calib-memory", "nan"], "--calib-memory must be a number of GiB above 0, not nan"),
        (["--calib-memory", "inf"], "--calib-memory must be a number of GiB above 0, not inf"),
        (["--calib-memory", "-1"], "--calib-memory must be a number of GiB above 0, not -1"),
        (["--threads", "99999999999"], "number of threads must be at most 4096"),
        (["--work-dir", "missing"], "the work folder missing does not exist"),
    ],
)
def test_bad_calibration_options(arguments: list[str], message: str, source: Path, tmp_path: Path) -> None:
    assert_refused(run_calibrated(source, tmp_path / "m.gguf", *arguments), message)
    assert not list(tmp_path.iterdir())


def test_options_that_exclude_each_other(source: Path, tmp_path: Path) -> None:
    done = run_calibrated(source, tmp_path / "m.gguf", "--resume", "--dry-run")
    assert done.returncode == 2 and "leave --resume out" in done.stderr
    for arguments in (["--rtn", "--calib", "x"], ["--stats", "x", "--imatrix", "y"]):
        done = run_calibrated(source, tmp_path / "m.gguf", *arguments)
        assert (done.returncode == 2 and "give one" in done.stderr) or "uses no statistics" in done.stderr


def test_an_imatrix_gives_feedback_within_blocks(
    source: Path, text: Path, by_methods: dict[str, ConversionReport], tmp_path: Path
) -> None:
    imatrix = tmp_path / "imatrix.gguf"
    write_imatrix(open_statistics(by_methods["feedback"].target.with_name("s.stats")), imatrix, ())
    report = convert(source, tmp_path / "m.gguf", options(text, "eoq3", statistics=imatrix))
    for record in report.records:
        if record.method == "feedback":
            assert record.weighted is not None and record.weighted.final < 0.95 * record.weighted.nearest
    assert sum(record.method == "feedback" for record in report.records) >= 14
    assert not any("no token" in note for note in report.notes)


def test_weights_that_no_token_reached_get_five_bits(
    source: Path, text: Path, by_methods: dict[str, ConversionReport], tmp_path: Path
) -> None:
    """As in blocks for multi-token prediction, which do not run; here, two tensors that an imatrix leaves out."""
    imatrix = tmp_path / "imatrix.gguf"
    skipped = ["blk.0.ffn_up.weight", "blk.1.attn_k.weight"]
    write_imatrix(open_statistics(by_methods["feedback"].target.with_name("s.stats")), imatrix, skipped)
    partial = replace(options(text, "eoq3", statistics=imatrix), allow_partial_statistics=True)
    report = convert(source, tmp_path / "m.gguf", partial)
    weights = 0
    for t in gguf.GGUFReader(report.target).tensors:
        if t.name in skipped:
            assert t.tensor_type.name.startswith("EOQ5")
            weights += t.n_elements
        elif "blk." in t.name and "norm" not in t.name:
            assert t.tensor_type.name.startswith("EOQ3"), t.name
    (note,) = [note for note in report.notes if "no token" in note]
    assert f"2 tensors, such as {skipped[0]} ({weights:,} weights): rounded to nearest, in no fewer than 5 bits" in note
    assert {r.method for r in report.records if r.plan.tensor.name in skipped} == {"nearest"}


@pytest.mark.parametrize("option", ["--stats", "--calib"])
def test_what_is_read_is_never_written_over(option: str, source: Path, tmp_path: Path) -> None:
    for name in ("read.gguf", "m.report.json"):
        read = tmp_path / name
        read.write_text("mine")
        target = read if name == "read.gguf" else tmp_path / "m.gguf"
        assert_refused(run_calibrated(source, target, option, read), f"would write over {read}, which is read")
        assert read.read_text() == "mine"
    new = tmp_path / "new.gguf"
    assert_refused(run_calibrated(source, new, "--stats", new), f"two outputs would be written to {new}")
    assert not new.exists()


class Stages(ReleaseProgress):
    """How often each begins."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()

    def stage(self, name: str, total: int) -> None:
        self.begun[name] += 1


def test_several_types_have_one_calibration(source: Path, text: Path, folder: Path, tmp_path: Path) -> None:
    stages = Stages()
    release = make_release(source, folder, ("eoq3", "eoq4"), options(text), stages)
    assert stages.begun["calibrating"] == 1 and stages.begun["quantising"] == 2
    statistics = tmp_path / "s.stats"
    for file in release.files:
        alone = convert(source, tmp_path / "alone.gguf", options(text, file.type, statistics=statistics))
        assert alone.target.read_bytes() == file.paths[0].read_bytes()
    assert "Calibration: text.txt" in release.card.read_text()


def test_a_size_is_planned_by_the_calibration_of_the_conversion(source: Path, text: Path, folder: Path) -> None:
    size, stages = source.stat().st_size // 7, Stages()
    request = BudgetRequest(Budget(file_bytes=size))
    report = convert(source, folder / "m.gguf", options(text), stages, request)
    assert (stages.begun["calibrating"], stages.begun["predicting errors"]) == (1, 1)
    assert 0.9 * size < report.target.stat().st_size <= size
    assert {record.method for record in report.records} == {"copy", "feedback"}
    why = {record.plan.tensor.name: record.plan.why for record in report.records}
    assert len({why[f"blk.{i}.ffn_down.weight"] for i in (0, 1)}) == 2  # other losses
