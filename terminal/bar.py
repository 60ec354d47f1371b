"""A bar on the terminal for one stage of work after the other, with the time left; plain lines elsewhere."""

import time
from datetime import timedelta
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from terminal.pace import Pace
from terminal.text import printable

QUIET_SECONDS = 30
"""Where there is no terminal, a line tells how far a stage is after so long without any."""


class StageBar:
    """A context: the bar is there inside it. `print` may be called at any time."""

    def __init__(self, *, stderr: bool, counts: bool = False) -> None:
        self._console = Console(stderr=stderr, highlight=False, markup=False, soft_wrap=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=None),
            rich.progress.MofNCompleteColumn() if counts else rich.progress.TaskProgressColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("left:"),
            rich.progress.TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task: rich.progress.TaskID | None = None
        self._name = ""
        self._pace = Pace(None)
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def begin(self, name: str, total: int | None) -> None:
        """The next stage; None for a total that is not known yet."""
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(printable(name), total=total)
        self._name, self._pace = name, Pace(total)
        if not self._console.is_terminal:
            self.print(f"{name} …")

    def advance(self, amount: int) -> None:
        """So many more units of the stage are done."""
        self._pace.advance(amount)
        if self._task is not None:
            self._bar.advance(self._task, amount)
        self._tell()

    def skip(self, amount: int) -> None:
        """So many units were done by an earlier run."""
        self._pace.skip(amount)
        if self._task is not None:
            self._bar.reset(self._task, completed=self._pace.done)

    def set(self, done: int, total: int) -> None:
        """So many of so many units are done."""
        self._pace.set(done, total)
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)
        self._tell()

    def print(self, line: str) -> None:
        """Print one line, whatever is in it."""
        self._last_line = time.monotonic()
        if self._console.is_terminal:
            self._console.print(printable(line))
        else:  # rich takes 30 s for what a model of 10^5 tensors has to say
            print(printable(line), file=self._console.file, flush=True)

    def _tell(self) -> None:
        """A line for whoever follows a log, where nothing was said for long."""
        if self._console.is_terminal or time.monotonic() - self._last_line < QUIET_SECONDS:
            return
        if (left := self._pace.seconds_left) is not None and self._pace.total:
            share = self._pace.done / self._pace.total
            self.print(f"{self._name}: {100 * share:.0f} %, {timedelta(seconds=round(left))} left")
