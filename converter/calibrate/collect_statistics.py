"""Calibration alone: a model in, a statistics file out."""

from pathlib import Path

from converter.calibrate.calibrate import calibrate
from converter.ingest import open_model
from converter.options import CalibrationOptions, SourceAccess
from converter.statistics import Statistics
from output_files.target import check_not_input, resolve_target
from terminal.progress import Progress


def collect_statistics(
    model_path: Path,
    target: Path,
    options: CalibrationOptions,
    access: SourceAccess,
    threads: int,
    progress: Progress | None = None,
) -> Statistics:
    """Calibrate a Hugging Face folder or GGUF and keep the statistics of all its matrices.

    Raises EoqError.
    """
    progress = progress or Progress()
    target = resolve_target(target)
    check_not_input(target, options.texts)
    with open_model(model_path, target, access, threads, progress) as source:
        return calibrate(source, target, options, threads, progress)
