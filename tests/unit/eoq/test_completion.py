"""Completion of `eoq`, asked for as a shell does through argcomplete: the line in the environment, answers on fd 8."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eoq.__main__ import COMMANDS
from eoq_formats.types import WEIGHT_TYPES
from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[3]
EOQ = f"{sys.executable} -m eoq"


def completions(line: str, folder: Path, program: str = EOQ, start: int = 1) -> set[str]:
    """How the line may go on at its end. `start` says which word of it is the program."""
    environment = {
        "COMP_LINE": line,
        "COMP_POINT": str(len(line.encode())),
        "_ARGCOMPLETE": str(start),
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-c", f"{program} 8>&1 9>/dev/null >/dev/null"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | environment,
        timeout=LONGEST,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return set(done.stdout.split("\n")) - {""}


def test_commands(tmp_path: Path) -> None:
    assert completions("eoq ", tmp_path) >= set(COMMANDS)
    assert completions("eoq ver", tmp_path) == {"verify"}
    assert completions("eoq no-such-command --", tmp_path) == {"--help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_options_of_every_command(command: str, tmp_path: Path) -> None:
    assert "--help" in completions(f"eoq {command} -", tmp_path)


def test_options_are_those_of_the_command(tmp_path: Path) -> None:
    assert completions("eoq convert a.gguf b.gguf --ty", tmp_path) == {"--type"}
    assert completions("eoq stats collect --by", tmp_path) == {"--by-text"}
    assert completions("eoq stats me", tmp_path) == {"merge"}
    assert completions("python -m eoq verify --ag", tmp_path, start=3) == {"--against"}


def test_values(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").touch()
    (tmp_path / "notes.txt").touch()
    (tmp_path / "models").mkdir()
    types = {kind.name.lower() for kind in WEIGHT_TYPES}
    assert completions("eoq convert a b --type ", tmp_path) == types
    assert completions("eoq convert a b --type eoq4t", tmp_path) == {name for name in types if name.startswith("eoq4t")}
    assert completions("eoq plan --planner f", tmp_path) == {"fastewq"}
    assert completions("eoq inspect m", tmp_path) == {"model.gguf", "models/"}
    assert completions("eoq convert m", tmp_path) == {"model.gguf", "models/"}
    assert completions("eoq verify x.gguf --against m", tmp_path) == {"model.gguf", "models/"}
    assert completions("eoq convert a b --stats n", tmp_path) == {"notes.txt"}
    assert completions("eoq convert a b --work-dir m", tmp_path) == {"models/"}
    assert completions("eoq convert a b --effort ", tmp_path) == set()


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    """It would be waited for at every press of a key."""
    heavy = {"torch", "transformers", "numpy", "numba", "gguf", "matplotlib", "rich"}
    script = f"""
        import sys, argcomplete
        def ended(status):
            print(*sorted({heavy!r} & set(sys.modules)), file=sys.stderr, end="")
            raise SystemExit(status)
        complete = argcomplete.autocomplete
        argcomplete.autocomplete = lambda parser, **options: complete(parser, exit_method=ended, **options)
        from eoq.__main__ import main
        main()
    """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    for line in ("eoq ", "eoq convert --", "eoq plan --", "eoq setup --", "eoq patch "):
        assert completions(line, tmp_path, program=f"{sys.executable} script.py")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_turns_it_on_is_there(shell: str) -> None:
    """The line of docs/install.md runs a program of argcomplete, which lies beside `eoq`."""
    program = Path(sys.executable).parent / "register-python-argcomplete"
    done = subprocess.run([program, "--shell", shell, "eoq"], capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0 and "_ARGCOMPLETE" in done.stdout and "eoq" in done.stdout
