"""An evaluation on the terminal: a bar with the time left, and a line a model. All on standard error."""

from pathlib import Path
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from evaluation.evaluate import Measurement
from evaluation.progress import EvaluationProgress


class EvaluationDisplay(EvaluationProgress):
    """Prints progress, so that standard output is left for the table. A context: the bar is there inside it."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
        self._bar = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(bar_width=None),
            rich.progress.MofNCompleteColumn(),
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

    def base_logits(self, file: Path, size: int) -> None:
        self._console.print(f"the base's log-probabilities take {size / 2**20:,.0f} MiB in {file.parent}")

    def base_run(self, base: Path) -> None:
        self._begin(f"base {base.name}")

    def model_run(self, model: Path, number: int, count: int) -> None:
        self._begin(f"[{number}/{count}] {model.name}")

    def _begin(self, what: str) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task(what, total=None)
        if not self._console.is_terminal:
            self._console.print(f"{what} …")

    def chunks(self, done: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done, total=total)

    def measured(self, measurement: Measurement) -> None:
        d = measurement.divergence
        self._console.print(
            f"{measurement.model.path.name}: mean KLD {d.kld.value:.5f} ± {d.kld.error:.5f}, perplexity "
            f"{measurement.perplexity_ratio.value:.4f} of the base's, same top token {100 * d.same_top.value:.2f} %, "
            f"{measurement.seconds:.0f} s"
        )
