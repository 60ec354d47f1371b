"""A bar on the terminal for one stage of work after the other, with the time left; plain lines elsewhere."""

from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from terminal.text import printable


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
        if not self._console.is_terminal:
            self.print(f"{name} …")

    def advance(self, amount: int) -> None:
        if self._task is not None:
            self._bar.advance(self._task, amount)

    def set(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def print(self, line: str) -> None:
        """Print one line, whatever is in it."""
        if self._console.is_terminal:
            self._console.print(printable(line))
        else:  # rich takes 30 s for what a model of 10^5 tensors has to say
            print(printable(line), file=self._console.file)
