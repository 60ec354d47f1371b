"""Calibration alone: a model in, a statistics file out."""

from dataclasses import replace
from pathlib import Path

from converter.calibrate import calibrate
from converter.calibrated import quantisable
from converter.ingest import open_model
from converter.options import ConversionOptions
from converter.progress import Progress
from converter.statistics import Statistics
from converter.write import resolve_target


def collect_statistics(
    model: Path, target: Path, options: ConversionOptions | None = None, progress: Progress | None = None
) -> Statistics:
    """Calibrate a Hugging Face folder or GGUF and keep the statistics of all tensors that may get an EOQ type.

    Of the options, those for calibration count, and where intermediate files go. Raises EoqError.
    """
    options, progress = options or ConversionOptions(), progress or Progress()
    target = resolve_target(target)
    calibration = replace(options.calibration, threads=options.threads)
    with open_model(model, target, options, progress) as source:
        return calibrate(source, model, quantisable(source), target, calibration, progress)
