"""tools/setup.sh makes an environment of this folder's own, and touches no other."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / "tools" / "setup.sh"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the script, and a Python that only writes down what it is asked for."""
    folder = tmp_path / "checkout"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(SETUP, folder / "tools")
    for name in ("constraints.txt", "pyproject.toml", "asked"):
        (folder / name).touch()
    _program(folder / "python", f'echo "$@" >>"{folder}/asked"')
    return folder


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def set_up(checkout: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [checkout / "tools" / "setup.sh", "--python-only", "--python", checkout / "python"]
    return subprocess.run(command, capture_output=True, text=True)


def test_an_environment_behind_a_link_is_not_emptied(checkout: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyvenv.cfg").touch()
    (checkout / ".venv").symlink_to(other)
    said = set_up(checkout)
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1 and f"is a link to {other}" in said.stderr
    assert (other / "pyvenv.cfg").exists()


def test_without_its_settings_an_environment_does_not_count(checkout: Path) -> None:
    """Its pip would install into the Python that it was made with."""
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "python").symlink_to(sys.executable)
    (programs / "pip").write_text(f"#!{programs}/python\n")
    set_up(checkout)
    assert f"-m venv --clear {checkout / '.venv'}" in (checkout / "asked").read_text()
