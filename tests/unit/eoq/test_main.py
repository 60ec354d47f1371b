"""`eoq COMMAND`, and the scripts in tools/ that are the same command lines by themselves."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from eoq.__main__ import COMMANDS, main
from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "tools").glob("*.py"))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, timeout=LONGEST)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr()
    assert ended.value.code == 0 and said.err == ""
    assert said.out.startswith(f"usage: eoq {command} ")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_an_option_that_it_does_not_have(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--no-such-option"])
    assert ended.value.code == 2 and "error: " in capsys.readouterr().err


def test_as_a_module_the_status_is_that_of_the_command() -> None:
    done = run("-m", "eoq", "convert", "--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: eoq convert ")
    done = run("-m", "eoq", "stats", "show", "no such file")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the statistics no such file cannot be read") and done.stderr.count("\n") == 1


def test_an_unknown_command_is_refused_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["conver"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith("error: there is no command 'conver'\n")
    assert all(f"  {name} " in said.err for name in COMMANDS)


@pytest.mark.parametrize(("words", "status"), [([], 2), (["--help"], 0), (["-h"], 0)])
def test_the_list_of_commands(words: list[str], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == status
    said = capsys.readouterr()
    assert said.err == "" and all(f"  {name} " in said.out for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    script = f"""
        import contextlib, io, sys
        from eoq.__main__ import main
        for command in {list(COMMANDS)!r}:
            with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
                main([command, "--help"])
        print(*sorted({{"torch", "transformers", "numpy", "gguf", "matplotlib", "rich"}} & set(sys.modules)))
    """
    done = run("-c", textwrap.dedent(script))
    assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_run_from_anywhere(script: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: {script.name} ")
