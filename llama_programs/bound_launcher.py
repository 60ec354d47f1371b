"""Runs a program that is killed when the process that asked for it is. Started as a script, on Linux, by run.py.

    python bound_launcher.py PARENT_PID PROGRAM ARGUMENT_0 ARGUMENTS...

The wish must be uttered between fork and exec. subprocess offers a function to be called there, but not for processes
with threads, of which BLAS, OpenMP and numba start some; so a process of its own does it, and becomes the program.
"""

import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program, *words = sys.argv[1:]
    with suppress(ImportError, OSError, AttributeError):  # a Python that was built without it
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != int(parent):
        os._exit(128 + signal.SIGKILL)  # it died before the wish was uttered
    try:
        os.execv(program, words)
    except OSError as error:
        sys.exit(f"error: {program} cannot be run: {error.strerror}")


if __name__ == "__main__":
    main()
