"""Files that are there whole, or not at all."""

from pathlib import Path

import pytest

from output_files.errors import TargetError
from output_files.whole import whole_or_not, write_whole


def test_text_and_bytes(folder: Path) -> None:
    write_whole(folder / "a", "Grüße\n")
    write_whole(folder / "b", b"\x00\xff")
    assert (folder / "a").read_bytes() == "Grüße\n".encode() and (folder / "b").read_bytes() == b"\x00\xff"
    write_whole(folder / "a", "new")
    assert (folder / "a").read_text() == "new"
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


def test_the_name_is_taken_at_the_end(folder: Path) -> None:
    target = folder / "a"
    target.write_text("old")
    with whole_or_not(target) as partial:
        assert partial.parent == folder and partial.read_bytes() == b""
        partial.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new" and not partial.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_breaks_off_leaves_the_old_file_and_nothing_else(error: type[BaseException], folder: Path) -> None:
    target = folder / "a"
    target.write_text("old")
    with pytest.raises(error), whole_or_not(target) as temporary:
        temporary.write_text("half")
        raise error
    assert [path.name for path in folder.iterdir()] == ["a"] and target.read_text() == "old"


def test_errors_of_the_system_are_explained(folder: Path) -> None:
    with pytest.raises(TargetError, match=r"^cannot write .*absent/a: No such file or directory$"):
        write_whole(folder / "absent" / "a", "text")
    (folder / "b").mkdir()
    with pytest.raises(TargetError, match=r"^cannot write .*/b: Is a directory$"):
        write_whole(folder / "b", "text")
    assert [path.name for path in folder.iterdir()] == ["b"]


@pytest.mark.parametrize("name", ["x" * 255, "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 85, "\N{LLAMA}" * 63])
def test_a_long_name_has_room_for_a_temporary_one(name: str, folder: Path) -> None:
    write_whole(folder / name, "text")
    assert [path.name for path in folder.iterdir()] == [name]
