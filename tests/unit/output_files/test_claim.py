"""Outputs belong to one run at a time, and what is kept of them is known."""

import subprocess
import sys
from pathlib import Path

import pytest

from output_files.claim import claimed, keep, kept
from output_files.errors import TargetError
from output_files.whole import write_whole

ROOT = Path(__file__).resolve().parents[3]


def test_a_second_run_is_refused_until_the_first_has_ended(folder: Path) -> None:
    target = folder / "m.gguf"
    (folder / "link").symlink_to(target)
    with claimed([target, folder / "m.json"]):
        for other in (target, folder / "link"):
            said = f"^another run is writing {target} at this moment; wait for its end"
            with pytest.raises(TargetError, match=said), claimed([folder / "other", other]):
                raise AssertionError("begun")
        with claimed([folder / "other"]):
            pass
    with claimed([target]):
        pass
    assert [path.name for path in folder.iterdir()] == ["link"]


def test_a_killed_run_holds_nothing(folder: Path) -> None:
    script = f"""
import os, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from output_files.claim import claimed
from output_files.leftovers import scratch_folder
from output_files.whole import partial_file
target = Path({str(folder / "m.gguf")!r})
with claimed([target]), partial_file(target), scratch_folder(target.parent):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    assert len(list(folder.iterdir())) == 3
    with claimed([folder / "m.gguf"]):
        assert [path.name for path in folder.iterdir()] == [".m.gguf.lock"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["x" * 255, "\N{LLAMA}" * 63])
def test_long_names(name: str, folder: Path) -> None:
    again = claimed([folder / name])
    with claimed([folder / name]), pytest.raises(TargetError, match="another run is writing"), again:
        raise AssertionError("begun")
    assert not list(folder.iterdir())


def test_a_lock_of_somebody_else_is_no_obstacle(folder: Path) -> None:
    (folder / ".m.gguf.lock").mkdir()
    with claimed([folder / "m.gguf"]):
        write_whole(folder / "m.gguf", "text")
    assert (folder / "m.gguf").read_text() == "text"


def test_what_breaks_off_tells_which_outputs_are_complete(folder: Path) -> None:
    kept()
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), claimed([folder / "old", folder / "new", folder / "replaced"]):
        write_whole(folder / "new", "text")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="else"), claimed([folder / "old"]):
        write_whole(folder / "old", "other")
        keep("the rest is lost")
        raise ValueError("something else")
    assert kept() == [f"{folder / 'new'} is complete", "the rest is lost", f"{folder / 'old'} is complete"]
    assert kept() == []
