"""An evaluation's progress as records of a log, beside whatever else shows it."""

from dataclasses import asdict
from pathlib import Path

from evaluation.measurement import Measurement
from evaluation.progress import EvaluationProgress
from terminal.event_log import EventLog


class LoggedEvaluation(EvaluationProgress):
    """Hears of progress, writes it to the log and passes it on."""

    def __init__(self, log: EventLog, shown: EvaluationProgress) -> None:
        self._log = log
        self._shown = shown

    def base_run(self, base: Path) -> None:
        self._log.stage("base", 0, model=base)
        self._shown.base_run(base)

    def base_logits(self, file: Path, size: int) -> None:
        self._shown.base_logits(file, size)

    def model_run(self, model: Path, number: int, count: int) -> None:
        self._log.stage("model", 0, model=model, number=number, count=count)
        self._shown.model_run(model, number, count)

    def chunks(self, done: int, total: int) -> None:
        self._log.set(done, total)
        self._shown.chunks(done, total)

    def measured(self, measurement: Measurement) -> None:
        d = measurement.divergence
        self._log.tell(
            "measured",
            model=measurement.model.path,
            kld=asdict(d.kld),
            perplexity=asdict(d.perplexity),
            perplexity_ratio=asdict(measurement.perplexity_ratio),
            same_top=asdict(d.same_top),
            seconds=round(measurement.seconds, 1),
        )
        self._shown.measured(measurement)
