"""Outputs in splits: laid out as llama-gguf-split does, read as one model, and there all at once."""

import subprocess
from dataclasses import replace
from pathlib import Path

import gguf
import pytest
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType

from converter import ConversionOptions, RoundingOptions, SourceAccess, convert
from gguf_files.header import parse_header
from gguf_files.output.splits import SplitLimit, split_paths, split_tensors, stale_files
from gguf_files.source import open_gguf
from gguf_files.tensors import TensorInfo
from inspection.verify import verify
from output_files.errors import TargetError
from terminal.progress import Progress
from tests.samples.gguf_samples import tiny_model, write_gguf

TO_NEAREST = ConversionOptions(rounding=RoundingOptions("nearest", awq=False))


def sizes(*rows: int) -> list[TensorInfo]:
    """Tensors of 32 bytes a row."""
    return [TensorInfo(f"{i}.weight", (8, n), T.F32) for i, n in enumerate(rows)]


@pytest.mark.parametrize(
    ("limit", "rows", "expected"),
    [
        (SplitLimit(nbytes=64), (1, 1, 1), [2, 1]),
        (SplitLimit(nbytes=64), (3, 1, 1, 1), [1, 2, 1]),  # what is larger has a split of its own
        (SplitLimit(nbytes=64), (1, 3, 1), [1, 1, 1]),
        (SplitLimit(tensors=2), (1, 9, 1, 1, 1), [2, 2, 1]),
        (SplitLimit(nbytes=96, tensors=2), (1, 1, 1, 3), [2, 1, 1]),
        (SplitLimit(nbytes=10**9), (1, 1), [2]),
        (None, (1, 1), [2]),
    ],
)
def test_layout(limit: SplitLimit | None, rows: tuple[int, ...], expected: list[int]) -> None:
    tensors = sizes(*rows)
    groups = split_tensors(tensors, limit)
    assert [len(group) for group in groups] == expected
    assert [t for group in groups for t in group] == tensors


def test_limits_below_one() -> None:
    for limit in ({"nbytes": 0}, {"tensors": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            SplitLimit(**limit)


def test_names(folder: Path) -> None:
    assert [path.name for path in split_paths(folder / "m.gguf", 2)] == [
        "m-00001-of-00002.gguf",
        "m-00002-of-00002.gguf",
    ]
    assert split_paths(folder / "m.gguf", 1) == [folder / "m.gguf"]
    for name in ("m.gguf", "m-00001-of-00002.gguf", "m-00001-of-00003.gguf", "mm-00001-of-00003.gguf"):
        (folder / name).touch()
    assert [path.name for path in stale_files(folder / "m.gguf", 2)] == ["m-00001-of-00003.gguf", "m.gguf"]
    assert [path.name for path in stale_files(folder / "m.gguf", 1)] == [
        "m-00001-of-00002.gguf",
        "m-00001-of-00003.gguf",
    ]


def test_splits_hold_what_one_file_does(folder: Path, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model(), lambda w: w.add_custom_alignment(64))
    whole = convert(source, tmp_path / "whole.gguf", TO_NEAREST)
    options = ConversionOptions(rounding=TO_NEAREST.rounding, split=SplitLimit(tensors=3))
    report = convert(source, folder / "m.gguf", options)
    assert sorted(path.name for path in folder.iterdir()) == [*(path.name for path in report.files), "m.report.json"]
    assert report.target_bytes == sum(path.stat().st_size for path in report.files)
    one, splits = open_gguf(whole.target), open_gguf(report.files[0])
    assert splits.paths == report.files and splits.tensors == one.tensors
    for t in one.tensors:
        assert splits.rows(t, 0, t.rows).tobytes() == one.rows(t, 0, t.rows).tobytes()
    heads = [parse_header(path.read_bytes()) for path in report.files]
    assert [entry.raw for entry in heads[0].metadata[:-3]] == [entry.raw for entry in one.metadata]
    for number, head in enumerate(heads):
        last = {entry.key: (entry.type, entry.value) for entry in head.metadata[-3:]}
        assert last == {
            "split.no": (GGUFValueType.UINT16, number),
            "split.count": (GGUFValueType.UINT16, 3),
            "split.tensors.count": (GGUFValueType.INT32, 7),
        }
        assert head.alignment == 64 and (number == 0 or [e.key for e in head.metadata[:-3]] == ["general.alignment"])
    verified = verify(splits, 1, Progress())
    assert verified.has_checksums and not verified.faults


def test_a_limit_that_one_file_keeps(folder: Path, tmp_path: Path) -> None:
    """As convert_hf_to_gguf.py does it: no splits, and no keys of splits."""
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    options = ConversionOptions(rounding=TO_NEAREST.rounding, split=SplitLimit(nbytes=10**9))
    assert convert(source, folder / "m.gguf", options).files == (folder / "m.gguf",)
    assert (folder / "m.gguf").read_bytes() == convert(source, tmp_path / "m.gguf", TO_NEAREST).target.read_bytes()


def test_what_would_be_mixed_or_written_over_is_refused(folder: Path, tmp_path: Path) -> None:
    source = write_gguf(folder / "source.gguf", tiny_model())
    options = ConversionOptions(rounding=TO_NEAREST.rounding, split=SplitLimit(tensors=3))
    for name in ("m-00002-of-00004.gguf", "m.gguf"):
        (folder / name).write_bytes(b"old")
        said = f"^{folder / name} is left of an older output, and the new one becomes 3 splits; remove it, or give"
        with pytest.raises(TargetError, match=said):
            convert(source, folder / "m.gguf", options)
        (folder / name).unlink()
    first = convert(source, folder / "m.gguf", options).files[0]
    with pytest.raises(TargetError, match=f"{first} would write over {first}, which is read"):
        convert(first, folder / "m.gguf", replace(options, source=SourceAccess(allow_requantize=True)))
    assert not list(folder.glob("*.work"))


def test_more_splits_than_may_be_open(folder: Path, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    tensors = {f"blk.{i}.ffn_up.weight": tiny_model()["blk.0.attn_q.weight"] for i in range(80)}
    source = write_gguf(tmp_path / "source.gguf", tensors)
    options = ConversionOptions(rounding=TO_NEAREST.rounding, split=SplitLimit(tensors=1), threads=1)
    convert(source, tmp_path / "first.gguf", TO_NEAREST)  # compiles
    open_now = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 40
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + 20, before[1]))
    try:
        files = convert(source, folder / "m.gguf", options).files
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(files) == 80


@pytest.mark.llama_cpp
def test_llama_gguf_split_merges_them(folder: Path, tmp_path: Path, programs: Path) -> None:
    """It asks for what llama.cpp's loader asks for: counts, names and order."""
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    options = ConversionOptions(rounding=TO_NEAREST.rounding, split=SplitLimit(tensors=3))
    report = convert(source, folder / "m.gguf", options)
    merged = folder / "merged.gguf"
    command = [str(programs / "llama-gguf-split"), "--merge", str(report.files[0]), str(merged)]
    subprocess.run(command, check=True, capture_output=True)
    whole = convert(source, tmp_path / "whole.gguf", TO_NEAREST).target
    one, other = gguf.GGUFReader(whole), gguf.GGUFReader(merged)
    assert [(t.name, t.data.tobytes()) for t in one.tensors] == [(t.name, t.data.tobytes()) for t in other.tensors]
