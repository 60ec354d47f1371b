"""Kernel measurements: what is measured, the arithmetic, and the C programs on tiny sizes. No times."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bench.c_program import compile_program, cpu_flags
from bench.errors import BenchError
from bench.inference.read_bandwidth import ReadBandwidth
from bench.kernels import speed as kernel_speed
from bench.kernels.runs import KernelProgram, Measurement, Work, works
from bench.kernels.speed import table, wanted_types
from bench.machine import cache_bytes, relevant_flags
from eoq_formats.types import Q8_EOQ, WEIGHT_TYPES, weight_type
from llama_programs.errors import ProgramFailed
from llama_programs.run import output_of

EOQ4 = weight_type("eoq4")
WORK = Work("mul_mat", EOQ4, rows=16, k=256, columns=4, slices=1)


def measurement(work: Work = WORK, seconds: float = 1e-6, gigahertz: float = 4.0) -> Measurement:
    return Measurement(work, seconds, 2112, read_seconds=seconds / 4, portable_seconds=10e-6, gigahertz=gigahertz)


def test_measurement() -> None:
    m = measurement()
    assert m.gigabytes_per_second == pytest.approx(2.112)
    assert m.weights_per_nanosecond == pytest.approx(4.096)
    assert m.multiply_adds == pytest.approx(4 * 4.096)
    assert m.weights_per_cycle == pytest.approx(1.024)
    assert m.of_read_speed == 0.25
    assert m.over_portable == pytest.approx(10)
    assert measurement(gigahertz=0).weights_per_cycle is None


def test_works() -> None:
    found = works(["mul_mat", "quantize"], [EOQ4, weight_type("eoq3")], [1, 8], 256, None, 1 << 16, 1 << 20)
    # both types have the same activations
    assert [(w.type.name, w.columns, w.slices == 1) for w in found] == [
        *((name, n, cached) for name in ("EOQ4", "EOQ3") for n in (1, 8) for cached in (True, False)),
        ("Q8_EOQ", 1, True),
        ("Q8_EOQ", 1, False),
    ]
    cached, uncached = found[:2]
    assert cached.rows == 496 and cached.rows * EOQ4.row_bytes(256) <= 1 << 16
    assert uncached.slices * uncached.rows * EOQ4.row_bytes(256) >= 1 << 20
    assert found[-1].rows == 64  # of 256 floats
    assert {w.rows for w in works(["dequantize"], [EOQ4], [1], 256, 5, 1, 1)} == {5}
    with pytest.raises(BenchError, match="multiple of 128"):
        works(["mul_mat"], [EOQ4], [1], 192, None, 1, 1)


def test_symbols() -> None:
    assert WORK.symbol == "ggml_eoq_mul_mat_eoq4"
    assert Work("quantize", Q8_EOQ, 1, 128, 1, 1).symbol == "quantize_row_q8_eoq"
    assert Work("dequantize", EOQ4, 1, 128, 1, 1).symbol == "dequantize_row_eoq4"


def test_table() -> None:
    out_of_cache = Work("mul_mat", EOQ4, rows=16, k=256, columns=4, slices=9)
    runs = [measurement(seconds=s * 1e-6) for s in (1, 2, 4)]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table({WORK: runs, out_of_cache: [measurement(out_of_cache)]}, {WORK: 0.5}).splitlines()
    ]
    assert rows[0][-2:] == ["weights/cycle", "instructions/weight"]
    cells = ["mul_mat", "EOQ4", "4", "cache", "1.06 (0.53..2.11)", "25%", "8.19", "5.0", "0.512", "0.500"]
    assert rows[2] == cells
    assert rows[3][3] == "memory" and rows[3][-1] == ""
    assert "weights/cycle" not in table({WORK: [measurement(gigahertz=0)]}, {})


def test_wanted_types() -> None:
    assert wanted_types(["all"]) == list(WEIGHT_TYPES)
    assert wanted_types(["eoq4", "EOQ4"]) == [EOQ4]


def test_a_type_that_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["kernel_speed", "--types", "q4_0"])
    assert kernel_speed.main() == 1
    assert "unknown EOQ type" in capsys.readouterr().err


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> KernelProgram:
    """Portable kernels, compiled in a moment."""
    return KernelProgram.compiled(tmp_path_factory.mktemp("kernels") / "kernels", ["-O1"])


@pytest.mark.parametrize("slices", [1, 3])
@pytest.mark.parametrize(("kernel", "name"), [("mul_mat", "eoq4"), ("mul_mat", "eoq3_64"), ("dequantize", "eoq6")])
def test_program_with_weights(program: KernelProgram, kernel: str, name: str, slices: int) -> None:
    t = weight_type(name)
    m = program.measure(Work(kernel, t, rows=16, k=256, columns=3, slices=slices), 1)
    assert m.bytes == 16 * t.row_bytes(256)
    assert m.seconds > 0 and m.read_seconds > 0
    assert (m.over_portable is None) == (kernel == "dequantize")


def test_program_with_activations(program: KernelProgram) -> None:
    assert program.measure(Work("quantize", Q8_EOQ, rows=3, k=256, columns=1, slices=2), 1).bytes == 3 * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="single steps are Linux's")
def test_program_counts_instructions(program: KernelProgram) -> None:
    """A weight takes some instructions, as many in every row, and more of them for more columns."""
    one, two = (replace(WORK, k=128, columns=columns) for columns in (1, 2))
    counted = program.instructions_per_weight(one)
    assert 1 < counted < 1000
    assert program.instructions_per_weight(replace(one, rows=64, slices=3)) == counted
    assert program.instructions_per_weight(two) == pytest.approx(2 * counted, rel=0.2)


@pytest.mark.parametrize(
    "arguments",
    [
        "mul_mat eoq4 1 100 1 1 1",
        "mul_mat q8_eoq 1 128 1 1 1",
        "quantize eoq4 1 128 1 1 1",
        "foo eoq4 1 128 1 1 1",
        "mul_mat eoq4 0 128 1 1 1",
        "",
    ],
)
def test_program_refuses(program: KernelProgram, arguments: str) -> None:
    with pytest.raises(ProgramFailed, match=r"failed \(status 1\):"):
        output_of([str(program.path), *arguments.split()])


def test_read_bandwidth(tmp_path: Path) -> None:
    memory = ReadBandwidth.compiled(tmp_path)
    output = output_of([str(memory.program), "8", "2", "3"])
    assert len(output.splitlines()) == 3 and all(float(line) > 0 for line in output.splitlines())
    assert ReadBandwidth(memory.program, mebibytes=8, passes=2).measure(1) > 0
    with pytest.raises(ProgramFailed, match="usage"):
        output_of([str(memory.program), "8", "0", "3"])


def test_what_does_not_compile(tmp_path: Path) -> None:
    (tmp_path / "wrong.c").write_text("no C\n")
    with pytest.raises(ProgramFailed, match=r"wrong\.c"):
        compile_program(tmp_path / "wrong", [tmp_path / "wrong.c"], [])


def test_cpu_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert cpu_flags("x86-64-v3,avxvnni") == ["-march=x86-64-v3", "-mavxvnni"]
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert cpu_flags("native") == ["-mcpu=native"]


def test_relevant_flags() -> None:
    assert relevant_flags("model name : x\nflags\t\t: fpu avx2 f16c avx512_vnni smep sse\n") == [
        "avx2",
        "avx512_vnni",
        "f16c",
    ]
    assert relevant_flags("Features\t: fp asimd asimddp i8mm sve\n") == ["asimd", "asimddp", "i8mm", "sve"]
    assert relevant_flags("") == []


def test_cache_bytes(tmp_path: Path) -> None:
    for index, (level, size) in enumerate([("1", "32K"), ("2", "1024K"), ("3", "96M")]):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        (folder / "level").write_text(level + "\n")
        (folder / "size").write_text(size + "\n")
    assert cache_bytes(2, tmp_path) == 1 << 20
    assert cache_bytes(3, tmp_path) == 96 << 20
    assert cache_bytes(3, tmp_path / "nothing") == 32 << 20
