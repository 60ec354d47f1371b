"""Programs are started here: none outlives its caller, and one that fails says why in one sentence."""

import codecs
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from llama_programs import bound_launcher
from llama_programs.errors import ProgramFailed
from output_files.interruptions import uninterrupted

_PATIENCE = 10.0
"""Seconds that a program gets to end by itself before it is killed."""
_SAID = 3000
"""Characters of a failed program's output that an error shows."""


@contextmanager
def running(command: Sequence[str], report: int | None = None, **options: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """A program without input in a process group of its own, which ends with the context whatever happens in it.

    On Linux it is killed when this process is, or the thread that is in the context. Into the descriptor `report`
    goes what it took (bound_launcher.py); the process of the context is then the one that measures. `options` are
    those of subprocess.Popen. Raises ProgramFailed where it cannot be started.
    """
    process: subprocess.Popen[bytes] | None = None
    try:
        with uninterrupted():
            process = _start(list(command), report, options)
        yield process
    finally:
        if process is not None:
            _end(process)


def _start(command: list[str], report: int | None, options: dict[str, Any]) -> "subprocess.Popen[bytes]":
    launcher = [sys.executable, "-I", "-S", bound_launcher.__file__, str(os.getpid())]
    if report is not None:
        options["pass_fds"] = [report]
    try:
        if (sys.platform == "linux" or report is not None) and (program := shutil.which(command[0])):
            command = [*launcher, "-" if report is None else str(report), program, *command]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    except OSError as error:
        raise ProgramFailed(f"{command[0]} cannot be run: {error.strerror}") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def listen(command: Sequence[str], heard: Callable[[str], None]) -> tuple[int, str]:
    """Run a program; `heard` gets all that it printed so far, both streams together, whenever there is more.

    Returns exit status and output. If `heard` raises, the program is ended. Raises ProgramFailed where it cannot be
    started.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    output = ""
    with running(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        # the raw descriptor: what is reported bit by bit may stand on a line that takes minutes to end
        while data := os.read(process.stdout.fileno(), 1 << 16):
            output += decoder.decode(data)
            heard(output)
        return process.wait(), output


def output_of(command: Sequence[str]) -> str:
    """What a program prints on standard output. Raises ProgramFailed with the end of its standard error."""
    with (
        tempfile.TemporaryFile() as errors,
        running(command, stdout=subprocess.PIPE, stderr=errors) as process,
    ):
        assert process.stdout is not None
        output = process.stdout.read().decode(errors="replace")
        status = process.wait()
        if status:
            errors.seek(0)
            raise ProgramFailed(failure(command, status, errors.read().decode(errors="replace")))
    return output


def timed_run(command: Sequence[str]) -> tuple[float, int]:
    """Run a program: seconds from start to end, and its peak resident memory in bytes, mapped files included.

    Of the program and those that it waited for, the largest. Raises ProgramFailed with the end of what it printed.
    """
    with tempfile.TemporaryFile() as log, tempfile.TemporaryFile() as report:
        with running(command, report.fileno(), stdout=log, stderr=log) as process:
            process.wait()
        report.seek(0)
        seconds, peak, ended = report.read().split() or (0, 0, process.returncode)
        if status := os.waitstatus_to_exitcode(int(ended)):
            log.seek(0)
            raise ProgramFailed(failure(command, status, log.read().decode(errors="replace")))
    return float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024)


def ending(status: int) -> str:
    """How a program ended, in words that follow its name."""
    if status >= 0:
        return f"failed (status {status})"
    hint = " (out of memory?)" if -status == signal.SIGKILL else ""
    return f"was ended by {signal.Signals(-status).name}{hint}"


def failure(command: Sequence[str], status: int, said: str) -> str:
    """The message of a program that failed, for benchmarks and checks: whole command, and the end of its words."""
    return f"{' '.join(command)}\n{ending(status)}:\n{said[-_SAID:].rstrip()}"
