"""A conversion's progress as records of a log, beside whatever else shows it."""

from collections.abc import Sequence
from typing import Any

from converter.report.conversion_progress import ConversionProgress
from converter.report.records import ConversionReport, TensorRecord
from gguf_files.tensor_types import type_name
from terminal.event_log import EventLog


class LoggedConversion(ConversionProgress):
    """Hears of progress, writes it to the log and passes it on."""

    def __init__(self, log: EventLog, shown: ConversionProgress) -> None:
        self._log = log
        self._shown = shown

    def stage(self, name: str, total: int) -> None:
        self._log.stage(name, total)
        self._shown.stage(name, total)

    def advance(self, amount: int) -> None:
        self._log.advance(amount)
        self._shown.advance(amount)

    def skip(self, amount: int) -> None:
        self._log.skip(amount)
        self._shown.skip(amount)

    def tensors_kept(self, records: Sequence[TensorRecord], count: int) -> None:
        self._log.tell("kept", tensors=len(records), count=count)
        self._shown.tensors_kept(records, count)

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        plan = record.plan
        self._log.tell(
            "tensor",
            tensor=plan.tensor.name,
            type=type_name(plan.type),
            number=number,
            count=count,
            shape=list(plan.tensor.shape),
            bits_per_weight=round(plan.bits_per_weight, 4),
            method=record.method,
            error_db=record.error_db,
            seconds=round(record.seconds, 3),
            notes=list(record.notes),
        )
        self._shown.tensor_done(record, number, count)


def totals(report: ConversionReport) -> dict[str, Any]:
    """Fields of the record that a conversion ends with."""
    return {
        "output": report.target,
        "files": list(report.files),
        "report": report.path,
        "bytes": report.target_bytes,
        "weights": report.weights,
        "bits_per_weight": round(report.bits_per_weight, 4),
        "seconds": round(report.seconds, 2),
        "seconds_by_stage": {name: round(seconds, 2) for name, seconds in report.stages.items()},
        "notes": list(report.notes),
    }
