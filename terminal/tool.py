"""How every tool and benchmark ends: in its result, in one line that says what to mend, or by a signal."""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from eoq_formats.errors import EoqError

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class _Interrupted(BaseException):
    """A signal asks for an end. Not an Exception: clean-up code runs, nothing else catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def run_tool(
    run: Callable[[argparse.Namespace], None],
    arguments: argparse.Namespace,
    left: Callable[[argparse.Namespace], str] = lambda arguments: "nothing was written",
) -> int:
    """Run a tool to its end and return its exit status.

    An error that a user can mend ends in one line on standard error and status 1; a signal in a line with what is
    `left` of the work, by way of all clean-up code, and 128 + its number. More signals meanwhile change nothing.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _raise_again
    try:
        run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read our output has seen enough; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (EoqError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except _Interrupted as interrupted:
        print(f"error: interrupted; {left(arguments)}", file=sys.stderr)
        return 128 + interrupted.number
    return 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise _Interrupted(number)


_RAISED_AGAIN = 0.02
"""Seconds until an interruption that got lost is raised once more."""


def _raise_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Finalisers and callbacks of C code lose what is raised in them, also the end that a signal asked for."""
    lost = unraisable.exc_value
    if not isinstance(lost, _Interrupted):
        sys.__unraisablehook__(unraisable)
        return
    signal.signal(lost.number, _interrupt)
    # not at once: it would be raised in this hook, and lost
    timer = threading.Timer(_RAISED_AGAIN, _signal_main_thread, (lost.number,))
    timer.daemon = True
    timer.start()


def _signal_main_thread(number: int) -> None:
    """Also where it waits in a call of the system, which a signal to another thread does not end."""
    main = threading.main_thread().ident
    assert main is not None
    signal.pthread_kill(main, number)
