"""How tools end: status, one line on standard error, and clean-up whatever ends them."""

import argparse
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eoq_formats.errors import EoqError
from output_files.claim import claimed
from output_files.leftovers import scratch_folder
from output_files.whole import partial_file, write_whole
from terminal.tool import run_tool
from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[3]
ARGUMENTS = argparse.Namespace(name="x")
SIGNALS = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)

# handlers are put back after each test by tests/conftest.py


def raising(error: BaseException) -> Callable[[argparse.Namespace], None]:
    def run(arguments: argparse.Namespace) -> None:
        raise error

    return run


def test_what_goes_well_ends_in_0_and_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[argparse.Namespace] = []
    assert run_tool(seen.append, ARGUMENTS) == 0
    assert seen == [ARGUMENTS]
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (EoqError("the model is missing; give another"), "error: the model is missing; give another\n"),
        (
            FileNotFoundError(2, "No such file or directory", "a.txt"),
            "error: [Errno 2] No such file or directory: 'a.txt'\n",
        ),
    ],
    ids=["EoqError", "OSError"],
)
def test_an_error_that_a_user_can_mend_is_one_line_and_1(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(raising(error), ARGUMENTS) == 1
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("error", [ValueError("a slip"), KeyError("k"), AssertionError()])
def test_errors_of_the_code_are_not_hidden(error: Exception) -> None:
    with pytest.raises(type(error)):
        run_tool(raising(error), ARGUMENTS)


@SIGNALS
def test_a_signal_is_one_line_and_its_number(number: signal.Signals, capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: argparse.Namespace) -> None:
        os.kill(os.getpid(), number)
        raise AssertionError("went on")

    assert run_tool(run, ARGUMENTS) == 128 + number
    assert capsys.readouterr() == ("", "error: interrupted; nothing was written\n")


@SIGNALS
def test_a_signal_that_comes_while_an_object_is_finalised_is_not_lost(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    class Finalised:
        def __del__(self) -> None:
            signal.raise_signal(number)

    def run(arguments: argparse.Namespace) -> None:
        Finalised()
        time.sleep(LONGEST)

    assert run_tool(run, ARGUMENTS) == 128 + number
    assert capsys.readouterr().err == "error: interrupted; nothing was written\n"


def test_a_signal_tells_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    def run(arguments: argparse.Namespace) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    assert run_tool(run, ARGUMENTS, lambda arguments: f"{arguments.name} is kept") == 143
    assert capsys.readouterr().err == "error: interrupted; x is kept\n"


@SIGNALS
def test_clean_up_runs_to_its_end_whatever_signals_come_meanwhile(
    number: signal.Signals, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part = tmp_path / "part"

    def run(arguments: argparse.Namespace) -> None:
        part.touch()
        try:
            try:
                os.kill(os.getpid(), number)
            except Exception:
                raise AssertionError("a signal is no error that work can deal with") from None
        finally:
            for other in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, number):
                os.kill(os.getpid(), other)
            part.unlink()

    assert run_tool(run, ARGUMENTS) == 128 + number
    assert not part.exists()
    assert capsys.readouterr().err == "error: interrupted; nothing was written\n"


def test_many_signals_at_once_are_one_line(tmp_path: Path) -> None:
    """While the work goes on, while it is cleaned up, and at the very end; six of each, whichever comes first."""
    script = """
        import argparse, sys, time
        from terminal.tool import run_tool

        def run(arguments):
            try:
                print("ready", flush=True)
                time.sleep(300)
            finally:
                time.sleep(0.2)

        sys.exit(run_tool(run, argparse.Namespace()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    for first in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(first)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) * 6:
                process.send_signal(number)
                time.sleep(0.005)
            _, said = process.communicate(timeout=LONGEST)
        assert said == "error: interrupted; nothing was written\n"
        assert process.returncode in {128 + n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}


def test_what_is_kept_of_the_work_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = tmp_path / "first", tmp_path / "second"

    def run(arguments: argparse.Namespace) -> None:
        with claimed([first, second]):
            write_whole(first, "text")
            if arguments.name == "killed":
                os.kill(os.getpid(), signal.SIGTERM)
            raise EoqError("the second cannot be made")

    assert run_tool(run, argparse.Namespace(name="killed")) == 143
    first.unlink()
    assert run_tool(run, ARGUMENTS) == 1
    assert run_tool(raising(EoqError("another")), ARGUMENTS) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"error: interrupted; {first} is complete",
        f"error: the second cannot be made; {first} is complete",
        "error: another",
    ]


def test_a_signal_that_is_ignored_from_the_start_stays_so(capsys: pytest.CaptureFixture[str]) -> None:
    """As under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen: list[str] = []

    def run(arguments: argparse.Namespace) -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        seen.append("went on")

    assert run_tool(run, ARGUMENTS) == 0
    assert seen == ["went on"] and capsys.readouterr().err == ""


def test_a_reader_that_has_seen_enough_ends_the_tool_in_silence(tmp_path: Path) -> None:
    done = tmp_path / "done"
    script = f"""
        import argparse, sys
        from pathlib import Path
        from terminal.tool import run_tool

        def run(arguments):
            try:
                while True:
                    print("a line", flush=True)
            finally:
                Path({str(done)!r}).touch()

        sys.exit(run_tool(run, argparse.Namespace()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "a line\n"
        process.stdout.close()
        said = process.stderr.read()
        status = process.wait(LONGEST)
    assert (status, said) == (128 + signal.SIGPIPE, "")
    assert done.exists()


@pytest.mark.parametrize("size", [1, 100_000], ids=["in the buffer", "more than the buffer holds"])
def test_what_is_still_to_be_flushed_to_such_a_reader_is_dropped(size: int) -> None:
    script = f"""
        import argparse, sys
        from terminal.tool import run_tool

        def run(arguments):
            sys.stdin.readline()
            print("x" * {size})

        sys.exit(run_tool(run, argparse.Namespace()))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    pipe, buffered = subprocess.PIPE, {**os.environ, "PYTHONUNBUFFERED": ""}
    with subprocess.Popen(command, cwd=ROOT, env=buffered, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, said = process.communicate("go on\n", timeout=LONGEST)
    assert (process.returncode, said) == (128 + signal.SIGPIPE, "")


@pytest.mark.parametrize("taken", ["claimed", "partial_file", "scratch_folder"])
def test_a_signal_that_comes_while_something_is_taken_leaves_nothing(
    taken: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a file's creation and the moment that anybody knows of it."""
    target = folder / "m.gguf"
    made: list[str | os.PathLike[str]] = []
    open_file = os.open

    def interrupted(path: str | os.PathLike[str], *others: int, dir_fd: int | None = None) -> int:
        descriptor = open_file(path, *others, dir_fd=dir_fd)
        made.append(path)
        signal.raise_signal(signal.SIGTERM)
        return descriptor

    def run(arguments: argparse.Namespace) -> None:
        taking = {"claimed": claimed([target]), "partial_file": partial_file(target)}
        with taking.get(taken) or scratch_folder(folder):
            raise AssertionError("the signal is not heeded")

    monkeypatch.setattr(os, "open", interrupted)
    assert run_tool(run, ARGUMENTS) == 128 + signal.SIGTERM
    assert made and not list(folder.iterdir())
