"""The report of a conversion as a JSON file."""

from pathlib import Path
from typing import Any

from converter.report.records import ConversionReport, FoldRecord, TensorRecord
from converter.rounding.rounded_rows import WeightedError
from gguf_files.tensor_types import type_name
from output_files.json_text import lines_of_json
from output_files.whole import write_whole

VERSION = 1
"""Version of the layout of the file."""


def write_report(report: ConversionReport) -> Path:
    """Write the report beside the output, replacing an older one. Raises TargetError."""
    write_whole(report.path, lines_of_json(as_json(report)))
    return report.path


def as_json(report: ConversionReport) -> dict[str, Any]:
    """Numbers, strings, lists and dictionaries. Errors relative to the signal unless they say otherwise.

    Numbers that are not finite, as with weights near the end of float32, become null in the file.
    """
    weighted = [r.weighted for r in report.records if r.weighted is not None]
    return {
        "version": VERSION,
        "file": (report.files[0] if report.files else report.target).name,
        "files": [path.name for path in report.files],
        "projector": None if report.projector is None else report.projector.target.name,
        "method": report.method,
        "options": list(report.options),
        "statistics": report.statistics,
        "statistics_coverage": report.coverage,
        "source_bytes": report.source_bytes,
        "target_bytes": report.target_bytes,
        "weights": report.weights,
        "bits_per_weight": round(report.bits_per_weight, 4),
        "seconds": round(report.seconds, 2),
        "seconds_by_stage": {name: round(seconds, 2) for name, seconds in report.stages.items()},
        "total_output_error": _weighted(sum(weighted, start=WeightedError.none())) if weighted else None,
        "notes": list(report.notes),
        "read_back": report.read_back,
        "folds": [_fold(fold) for fold in report.folds],
        "tensors": [_tensor(record) for record in report.records],
    }


def _tensor(record: TensorRecord) -> dict[str, Any]:
    plan = record.plan
    entry: dict[str, Any] = {
        "name": plan.tensor.name,
        "shape": list(plan.tensor.shape),
        "source_type": type_name(plan.tensor.type),
        "type": type_name(plan.type),
        "why": plan.why,
        "fallback": plan.fallback,
        "bits_per_weight": round(plan.bits_per_weight, 4),
        "method": record.method,
        "seconds": round(record.seconds, 3),
    }
    if record.signal > 0:
        entry["error"] = record.error / record.signal
    if record.weighted is not None:
        entry["output_error"] = _weighted(record.weighted)
        entry["damping"] = record.damping
    if record.is_scaled:
        entry["scaled"] = True
    if record.notes:
        entry["notes"] = list(record.notes)
    return entry


def _weighted(errors: WeightedError) -> dict[str, float]:
    signal = errors.signal or 1.0
    return {
        "signal": errors.signal,
        "nearest": errors.nearest / signal,
        "feedback": errors.feedback / signal,
        "final": errors.final / signal,
    }


def _fold(fold: FoldRecord) -> dict[str, Any]:
    return {
        "producer": fold.producer,
        "consumers": list(fold.consumers),
        "alpha": fold.alpha,
        "beta": fold.beta,
        "refined": fold.refined,
        "smallest_scale": fold.smallest,
        "largest_scale": fold.largest,
        "sampled_error_before": fold.error_before,
        "sampled_error_after": fold.error_after,
    }
