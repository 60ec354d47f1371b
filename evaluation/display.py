"""An evaluation on the terminal: a bar with the time left, and a line a model. All on standard error."""

from pathlib import Path
from types import TracebackType
from typing import Self

from evaluation.measurement import Measurement
from evaluation.progress import EvaluationProgress
from terminal.bar import StageBar


class EvaluationDisplay(EvaluationProgress):
    """Prints progress, so that standard output is left for the table. A context: the bar is there inside it."""

    def __init__(self) -> None:
        self._bar = StageBar(stderr=True, counts=True)

    def __enter__(self) -> Self:
        self._bar.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.__exit__(kind, error, trace)

    def base_logits(self, file: Path, size: int) -> None:
        self._bar.print(f"the base's log-probabilities take {size / 2**20:,.0f} MiB in {file.parent}")

    def base_run(self, base: Path) -> None:
        self._bar.begin(f"base {base.name}", None)

    def model_run(self, model: Path, number: int, count: int) -> None:
        self._bar.begin(f"[{number}/{count}] {model.name}", None)

    def chunks(self, done: int, total: int) -> None:
        self._bar.set(done, total)

    def measured(self, measurement: Measurement) -> None:
        d = measurement.divergence
        self._bar.print(
            f"{measurement.model.path.name}: mean KLD {d.kld.value:.5f} ± {d.kld.error:.5f}, perplexity "
            f"{measurement.perplexity_ratio.value:.4f} of the base's, same top token {100 * d.same_top.value:.2f} %, "
            f"{measurement.seconds:.0f} s"
        )
