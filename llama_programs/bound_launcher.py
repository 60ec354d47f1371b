"""Runs a program that is killed when the process that asked for it is. Started as a script by run.py.

    python bound_launcher.py PARENT_PID REPORT PROGRAM ARGUMENT_0 ARGUMENTS...

The wish must be uttered between fork and exec. subprocess offers a function to be called there, but not for processes
with threads, of which BLAS, OpenMP and numba start some; so a process of its own does it, and becomes the program.

With a descriptor as REPORT (else -) this process stays, and writes there what the program took: seconds, the peak of
its resident memory as getrusage has it, and its wait status. Linux counts a program's peak from that of the process
that started it, so only a small one can measure.
"""

import os
import signal
import sys
import time
from contextlib import suppress

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, report, program, *words = sys.argv[1:]
    _end_with(int(parent))
    if report != "-":
        _measured(int(report))
    try:
        os.execv(program, words)
    except OSError as error:
        print(f"error: {program} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(1)


def _end_with(parent: int) -> None:
    with suppress(ImportError, OSError, AttributeError):  # a Python that was built without it, or another system
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(128 + signal.SIGKILL)  # it died before the wish was uttered


def _measured(report: int) -> None:
    """Returns in a process of its own, whose report this one writes before it ends."""
    launcher = os.getpid()
    start = time.perf_counter()
    # one that comes before it can be passed on waits
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        os.close(report)
        _end_with(launcher)
        return
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    _, status, usage = os.wait4(child, 0)
    os.write(report, f"{time.perf_counter() - start} {usage.ru_maxrss} {status}".encode())
    os._exit(0)


if __name__ == "__main__":
    main()
