"""Where outputs may go, and what they never write over."""

import os
import shutil
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest

from output_files.errors import TargetError
from output_files.target import check_not_input, check_outputs, check_space, resolve_target


def test_targets_that_cannot_be_written(folder: Path) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        resolve_target(folder / "missing" / "m.gguf")
    with pytest.raises(TargetError, match="is a folder"):
        resolve_target(folder)
    (folder / "file").touch()
    with pytest.raises(TargetError, match="file of the output does not exist"):
        resolve_target(folder / "file" / "m.gguf")
    with pytest.raises(TargetError, match="not an ordinary file"):
        resolve_target(Path(os.devnull))


def test_a_folder_without_permission(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", deny)
    with pytest.raises(TargetError, match=f"cannot write in {folder}: Permission denied"):
        resolve_target(folder / "m.gguf")


def test_an_input_is_never_the_target(folder: Path) -> None:
    source = folder / "m.gguf"
    source.write_bytes(b"old")
    (folder / "hard.gguf").hardlink_to(source)
    (folder / "soft.gguf").symlink_to(source)
    for name in ("m.gguf", "hard.gguf", "soft.gguf"):
        target = resolve_target(folder / name)
        with pytest.raises(TargetError, match=f"^the output {target} would write over {source}, which is read; give"):
            check_not_input(target, [None, source])
    check_not_input(folder / "new.gguf", [source, None])


def test_an_input_that_does_not_exist_yet_is_not_the_target_either(folder: Path) -> None:
    missing = folder / "s.stats"
    (folder / "sub").mkdir()
    for name in (missing, folder / "sub" / ".." / "s.stats"):
        with pytest.raises(TargetError, match=r"would write over .*s\.stats, which is read"):
            check_not_input(name, [missing])
    (folder / "soft.stats").symlink_to(missing)
    with pytest.raises(TargetError, match="which is read"):
        check_not_input(folder / "soft.stats", [missing])
    check_not_input(folder / "other", [missing])


def test_all_outputs_are_checked(folder: Path) -> None:
    read = folder / "text.txt"
    read.touch()
    check_outputs([None])
    check_outputs([folder / "out.json", None, folder / "out.png"], [read, None])
    for output, message in (
        (folder, "is a folder"),
        (folder / "absent" / "out.json", "does not exist"),
        (read, "which is read"),
    ):
        with pytest.raises(TargetError, match=message):
            check_outputs([folder / "out.json", output], (path for path in (None, read)))
    assert [path.name for path in folder.iterdir()] == ["text.txt"]


def test_a_folder_that_is_read_stands_for_its_files(folder: Path) -> None:
    read = folder / "questions.csv"
    read.touch()
    (folder / "hard").mkdir()
    (folder / "hard" / "link").hardlink_to(read)
    for output in (read, folder / "hard" / "link"):
        with pytest.raises(TargetError, match=f"would write over {read}, which is read"):
            check_outputs([output], [folder])
    check_outputs([folder / "new.json"], [folder])


def test_two_outputs_are_two_files(folder: Path) -> None:
    (folder / "old").touch()
    (folder / "hard").hardlink_to(folder / "old")
    (folder / "soft").symlink_to(folder / "new")
    for first, second in (("a", "a"), ("old", "hard"), ("new", "soft")):
        with pytest.raises(TargetError, match="two outputs would be written to"):
            check_outputs([folder / first, folder / "b", folder / second])
    check_outputs([folder / "a", folder / "b"])


def test_room_on_the_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 5, 3 * 2**20))
    check_space((folder, 3 * 2**20, "the output"))
    with pytest.raises(TargetError, match=r"the output needs 5\.00 GiB, but .* only 3\.0 MiB left"):
        check_space((folder, 5 * 2**30, "the output"))
    with pytest.raises(TargetError, match=r"the output and the statistics need 4\.0 MiB, but .* only 3\.0 MiB left"):
        check_space((folder, 2**20, "the output"), (folder / "..", 3 * 2**20, "the statistics"))
    elsewhere = Path("/proc")
    if elsewhere.is_dir() and elsewhere.stat().st_dev != folder.stat().st_dev:
        check_space((folder, 2**20, "the output"), (elsewhere, 3 * 2**20, "the statistics"))
