"""How an evaluation tells what it is doing."""

from pathlib import Path

from evaluation.measurement import Measurement


class EvaluationProgress:
    """Hears of an evaluation's progress. This one stays silent: derive from it and override what is of interest."""

    def base_run(self, base: Path) -> None:
        """The run of the base begins; there is none where its results were kept."""

    def base_logits(self, file: Path, size: int) -> None:
        """The base's log-probabilities go to `file` and will take so many bytes."""

    def model_run(self, model: Path, number: int, count: int) -> None:
        """The run of model `number` (from 1) of `count` begins."""

    def chunks(self, done: int, total: int) -> None:
        """Show that `done` of the `total` chunks of this run are done."""

    def measured(self, measurement: Measurement) -> None:
        """The results of a model are there."""
