"""What every attack must come to: one line on standard error, and exit status 1."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Main = Callable[[Sequence[str]], int]

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 120
"""Of the processor, imports and the compilation of kernels included: what hangs ends."""
MOST_BYTES = 1 << 30
"""Of memory that a program may ask for, libraries and their threads included."""


def assert_refused(main: Main, capsys: pytest.CaptureFixture[str], message: str, *words: object) -> None:
    """Run a tool in this process."""
    capsys.readouterr()
    status = main([str(word) for word in words])
    said = capsys.readouterr().err
    _check(status, said, message)


def assert_refused_within_limits(message: str, script: str, *words: object) -> None:
    """Run a script of tools/ in a process of its own, whose time and memory are limited."""
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / script, *map(str, words)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        preexec_fn=_limit,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # each thread's buffers count
    )
    _check(done.returncode, done.stderr, message)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))


def _check(status: int, said: str, message: str) -> None:
    assert status == 1, said
    assert said.startswith("error: ") and said.endswith("\n"), said
    line = said.removesuffix("\n")
    assert line.isprintable() and len(line) < 6000, said
    assert message in line, said
