"""Signals that ask for an end wait while something is taken that has to be given back."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_takings: list[object] = []
_waiting: list[BaseException] = []


@contextmanager
def uninterrupted() -> Iterator[None]:
    """For the moment between taking something and knowing it: what `put_off` gets meanwhile is raised at its end.

    What is raised by a signal's handler could come between the two, and what was taken would be left behind. Signals
    are handled in the main thread; in others this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _takings.append(object())
    try:
        yield
    finally:
        _takings.pop()
        if _waiting and not _takings:
            raise _waiting.pop()


def put_off(interruption: BaseException) -> bool:
    """Whether `uninterrupted` will raise this; for handlers of signals."""
    if _takings:
        _waiting.append(interruption)
    return bool(_takings)
