"""Runs tools/convert_eoq.py as users do."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.samples.waiting import LONGEST

TOOL = Path(__file__).resolve().parents[3] / "tools" / "convert_eoq.py"


def run_tool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Round to nearest."""
    return run_calibrated(*arguments, "--rtn")


def run_calibrated(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the tool with its own defaults."""
    return subprocess.run([sys.executable, TOOL, *map(str, arguments)], capture_output=True, text=True, timeout=LONGEST)


def assert_refused(done: subprocess.CompletedProcess[str], message: str) -> None:
    """Exit status 1, and one sentence on standard error."""
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("error: ") and message in done.stderr


def run_and_signal(ready: Callable[[str], bool], number: signal.Signals, *arguments: str | Path) -> tuple[int, str]:
    """Run the tool, send it a signal once it prints a line that is `ready`. Returns exit status and standard error."""
    command = [sys.executable, str(TOOL), *map(str, arguments), "--rtn"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if ready(line):
                process.send_signal(number)
                break
        _, errors = process.communicate(timeout=LONGEST)
    return process.returncode, errors
