"""What killed runs leave is removed by the next run, and what running ones hold is not."""

import fcntl
import logging
import os
import shutil
from pathlib import Path

import pytest

from output_files.errors import TargetError
from output_files.leftovers import remove_leftovers, scratch_folder
from output_files.whole import partial_file, write_whole

HEX = "0123456789abcdef"


def killed_scratch(folder: Path) -> Path:
    """A scratch folder as a killed process leaves it."""
    left = folder / f".eoq-{HEX}"
    (left / "files").mkdir(parents=True)
    (left / ".lock").touch()
    (left / "files" / "source.gguf").write_bytes(b"x" * 1000)
    return left


def test_what_a_killed_run_left_is_removed_and_named_in_one_line(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = folder / "m.gguf"
    target.write_bytes(b"whole")
    partial, scratch = folder / f".m.gguf.{HEX}.part", killed_scratch(folder)
    partial.write_bytes(b"x" * 2**20)
    remove_leftovers(folder, [target])
    assert [path.name for path in folder.iterdir()] == ["m.gguf"]
    assert [record.getMessage() for record in caplog.records] == [
        f"note: removed what a killed run left in {folder}: {scratch.name}, {partial.name} (1.0 MiB)"
    ]


def test_many_leftovers_are_still_one_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        (folder / f".m.gguf.{number:016x}.part").touch()
    remove_leftovers(folder, [folder / "m.gguf"])
    (record,) = caplog.records
    assert " and 3 more (0.0 MiB)" in record.getMessage() and not list(folder.iterdir())


def test_what_is_at_work_stays(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    target = folder / "m.gguf"
    with partial_file(target) as partial, scratch_folder(folder) as scratch:
        (scratch / "file").touch()
        remove_leftovers(folder, [target])
        with scratch_folder(folder) as other:
            assert other != scratch
        assert partial.exists() and (scratch / "file").exists()
    assert not list(folder.iterdir()) and not caplog.records


def test_what_is_not_ours_stays(folder: Path, tmp_path: Path) -> None:
    killed_scratch(tmp_path)
    (folder / f".eoq-{HEX[::-1]}").symlink_to(tmp_path / f".eoq-{HEX}")
    (folder / f".m.gguf.{HEX}.part").symlink_to(tmp_path)
    os.mkfifo(folder / f".m.gguf.{HEX[::-1]}.part")
    (folder / f".eoq-{HEX}").mkdir()
    for name in (".m.gguf.part", f".m.gguf.{HEX}", f".other.gguf.{HEX}.part", f"m.gguf.{HEX}.part", f".eoq-{HEX}/mine"):
        (folder / name).write_bytes(b"mine")
    (folder / ".eoq-settings").mkdir()
    before = sorted(folder.rglob("*"))
    remove_leftovers(folder, [folder / "m.gguf"])
    assert sorted(folder.rglob("*")) == before and (tmp_path / f".eoq-{HEX}" / ".lock").exists()


def test_a_scratch_folder_that_was_killed_before_its_lock(folder: Path) -> None:
    (folder / f".eoq-{HEX}").mkdir()
    remove_leftovers(folder)
    assert not list(folder.iterdir())


def test_a_folder_that_another_run_takes_for_a_leftover_at_once_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its making and its lock nothing tells a new folder from one of a killed run."""
    real = Path.mkdir
    swept: list[Path] = []

    def mkdir(self: Path, *args: object, **kwargs: object) -> None:
        real(self)
        if self.parent == folder and not swept:
            swept.append(self)
            remove_leftovers(folder)
            assert not self.exists()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with scratch_folder(folder) as scratch:
        assert scratch.is_dir() and swept and scratch.parent != swept[0]
    assert not list(folder.iterdir())


def test_a_new_file_that_another_run_takes_for_a_leftover_at_once_is_made_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, target = fcntl.flock, folder / "m.gguf"
    swept: list[bool] = []

    def flock(descriptor: int, operation: int) -> None:
        if not swept:
            swept.append(True)
            remove_leftovers(folder, [target])
            assert not list(folder.iterdir())
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with partial_file(target) as partial:
        assert swept and partial.exists()
    write_whole(target, "text")
    assert target.read_text() == "text"


def test_a_file_system_without_locks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work goes on, and nothing is taken for a leftover."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    left = killed_scratch(folder)
    with scratch_folder(folder) as scratch:
        write_whole(scratch / "file", "text")
    remove_leftovers(folder, [folder / "m.gguf"])
    assert list(folder.iterdir()) == [left]


def test_leftovers_that_cannot_be_removed_are_no_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    killed_scratch(folder)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
    with caplog.at_level(logging.WARNING):
        remove_leftovers(folder)
        remove_leftovers(folder / "missing")
    assert not caplog.records


def test_a_place_where_no_folder_can_be_made(folder: Path) -> None:
    said = r"^cannot make a temporary folder in .*missing: No such file or directory$"
    with pytest.raises(TargetError, match=said), scratch_folder(folder / "missing"):
        raise AssertionError("made")
