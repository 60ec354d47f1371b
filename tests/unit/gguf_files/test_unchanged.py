"""Models that change, shrink or cannot be read while they are read: an error that says so, and no output."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from converter import ConversionOptions, ConversionProgress, RoundingOptions, TensorRecord, convert
from eoq_formats.errors import EoqError
from gguf_files.errors import SourceError
from gguf_files.source import open_gguf
from gguf_files.unchanged import FileState, file_states, unchanged
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf
from tests.samples.moments_samples import Q, model, write_statistics

ROOT = Path(__file__).resolve().parents[3]
TO_NEAREST = ConversionOptions(rounding=RoundingOptions("nearest", awq=False))
SAYS_SO = "was changed or cut short while it was read; start again once nothing writes to it"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = write_gguf(tmp_path / "source.gguf", tiny_model())
    os.utime(path, (1e9, 1e9))  # the clock of a file system goes in steps
    return path


@pytest.mark.parametrize("size", [0, 3, 100])
def test_a_source_that_is_cut_short_while_its_head_is_read(
    size: int, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which ends a process that has it mapped."""
    state_of = FileState.of

    def cut_after(file: Path | int) -> FileState:
        state = state_of(file)
        os.truncate(source, size)
        return state

    monkeypatch.setattr(FileState, "of", cut_after)
    with pytest.raises(SourceError, match=f"^{source} {SAYS_SO}$"):
        open_gguf(source)


def overwrite(path: Path) -> None:
    """As `cp other.gguf source.gguf` does: other weights, the same size, the same file."""
    changed = path.read_bytes()[:-4096] + b"\x11" * 4096
    with path.open("r+b") as file:
        file.write(changed)


CHANGES: dict[str, Callable[[Path], object]] = {
    "cut short": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "overwritten": overwrite,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("after", [1, 3, 7])
def test_a_source_that_changes_while_it_is_converted(change: str, after: int, source: Path, folder: Path) -> None:
    """After the first tensor, amid them, and after the last."""

    class Changing(ConversionProgress):
        def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
            if number == after:
                CHANGES[change](source)

    with pytest.raises(SourceError, match=f"^{source} {SAYS_SO}$"):
        convert(source, folder / "m.gguf", TO_NEAREST, Changing())
    assert not list(folder.iterdir())


def test_another_file_under_the_name_does_no_harm(source: Path, folder: Path) -> None:
    convert(source, folder / "before.gguf", TO_NEAREST)

    class Replacing(ConversionProgress):
        def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
            if number == 1:
                source.unlink()
                write_gguf(source, {"blk.0.ffn_up.weight": random_weights(1, 8, 128)})

    convert(source, folder / "after.gguf", TO_NEAREST, Replacing())
    assert (folder / "before.gguf").read_bytes() == (folder / "after.gguf").read_bytes()


def test_a_mapping_would_have_killed_the_process(source: Path) -> None:
    """In a process of its own, which says so if it lives."""
    script = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from gguf_files.errors import SourceError
from gguf_files.source import open_gguf
source = open_gguf(Path({str(source)!r}))
os.truncate({str(source)!r}, 4096)
try:
    [source.rows(t, 0, t.rows).sum() for t in source.tensors]
except SourceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{source} {SAYS_SO}\n")


def test_a_disk_that_cannot_be_read(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceError, match=f"^{source} cannot be read: Input/output error$"):
        convert(source, folder / "m.gguf", TO_NEAREST)
    assert not list(folder.iterdir())


def test_reads_that_give_less_than_was_asked_for_go_on(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = open_gguf(source), os.preadv
    whole = {t.name: opened.rows(t, 0, t.rows).tobytes() for t in opened.tensors}
    monkeypatch.setattr(os, "preadv", lambda file, buffers, offset: real(file, [buffers[0][:1000]], offset))
    assert {t.name: opened.rows(t, 0, t.rows).tobytes() for t in opened.tensors} == whole


def test_statistics_that_change(tmp_path: Path) -> None:
    path = tmp_path / "m.stats"
    statistics = write_statistics(path, model(tmp_path), 1)
    assert statistics.moments(Q) is not None
    os.truncate(path, path.stat().st_size // 2)
    for read in (statistics.moments, statistics.diagonal, statistics.counts):
        with pytest.raises(SourceError, match=f"^{path} {SAYS_SO}$"):
            read(Q)


def test_files_that_other_programs_read(source: Path, tmp_path: Path) -> None:
    with unchanged(file_states([source])):
        pass
    with pytest.raises(ValueError, match="a slip"), unchanged(file_states([source])):
        raise ValueError("a slip")
    with pytest.raises(EoqError, match="the program failed"), unchanged(file_states([source])):
        raise EoqError("the program failed")
    with pytest.raises(SourceError, match=SAYS_SO), unchanged(file_states([source])):
        overwrite(source)
        raise EoqError("the program failed")
    with pytest.raises(SourceError, match=SAYS_SO), unchanged(file_states([source])):
        (tmp_path / "other").write_bytes(source.read_bytes())
        (tmp_path / "other").replace(source)
    with pytest.raises(SourceError, match=SAYS_SO), unchanged(file_states([source])):
        source.unlink()
    with pytest.raises(SourceError, match=f"^{source} cannot be read: No such file"):
        file_states([source])
