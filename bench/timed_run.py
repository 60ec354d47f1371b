"""Run a program as a user would, and see what it takes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence


class ProgramFailed(Exception):
    """A program ended with an error."""


def timed_run(command: Sequence[str]) -> tuple[float, int]:
    """Run a program: seconds from start to end, and its peak resident memory in bytes, mapped files included.

    Raises ProgramFailed with the end of what it printed.
    """
    with tempfile.TemporaryFile() as log:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace")[-3000:]
            raise ProgramFailed(f"{' '.join(command)}\nended with status {process.returncode}:\n{said}")
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
