"""How every tool and benchmark ends: in its result, in one line that says what to mend, or by a signal."""

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from types import FrameType

from eoq_formats.errors import EoqError
from output_files.claim import kept
from output_files.interruptions import put_off
from terminal.event_log import EventLog
from terminal.text import message

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
    log: EventLog | None = None,
) -> int:
    """Run a tool to its end and return its exit status.

    An error that a user can mend ends in one line on standard error and status 1, a signal in a line and 128 + its
    number, by way of all clean-up code. Both lines say what is kept of the work (`output_files.claim.kept`), and if it
    is nothing, a signal's what is `left`. More signals meanwhile change nothing. The `log`, if there is one, gets the
    same words as its last record.
    """
    kept()
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _raise_again
    if not sys.warnoptions:  # what is no number is refused by name; NumPy's lines beside that say nothing to a user
        warnings.simplefilter("ignore", RuntimeWarning)
    log = log or EventLog(None, "")
    try:
        return _status(run, arguments, log)
    except _Interrupted as interrupted:
        return _failed(["interrupted", *(kept() or [left(arguments)])], 128 + interrupted.number, log)
    except BaseException as error:
        log.failed(f"a fault of this program: {type(error).__name__}: {error}", 1)
        raise


def _status(run: Callable[[argparse.Namespace], None], arguments: argparse.Namespace, log: EventLog) -> int:
    try:
        run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read our output has seen enough; Python would complain once more when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        log.failed("nobody reads standard output any more", 128 + signal.SIGPIPE)
        return 128 + signal.SIGPIPE
    except (EoqError, OSError) as error:
        return _failed([str(error), *kept()], 1, log)
    return 0


def _failed(words: Sequence[str], status: int, log: EventLog) -> int:
    """Tell why, in the log and in one line on standard error, and return the exit status."""
    text = "; ".join(words)
    if not log.failed(text, status):
        print(message(f"error: {text}"), file=sys.stderr)
    return status


def _interrupt(number: int, frame: FrameType | None) -> None:
    for other in _SIGNALS:
        # not SIG_IGN: children would inherit it, and Python complains of signals that came at the same time
        signal.signal(other, _overlook)
    interruption = _Interrupted(number)
    if not put_off(interruption):
        raise interruption


def _overlook(number: int, frame: FrameType | None) -> None:
    """A signal while the end is on its way."""


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
