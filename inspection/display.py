"""Progress on the terminal: a bar on standard error, nothing where that is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from terminal.bar import StageBar
from terminal.progress import Progress


class _Bar(Progress):
    def __init__(self, bar: StageBar) -> None:
        self._bar = bar

    def stage(self, name: str, total: int) -> None:
        self._bar.begin(name, total or None)

    def advance(self, amount: int) -> None:
        self._bar.advance(amount)

    def skip(self, amount: int) -> None:
        self._bar.skip(amount)


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Progress that is shown as long as the context lasts, so that standard output is left for the result."""
    if not sys.stderr.isatty():
        yield Progress()
        return
    with StageBar(stderr=True) as bar:
        yield _Bar(bar)
