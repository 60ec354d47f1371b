"""Calibration alone: a model in, a statistics file out."""

from pathlib import Path

from converter.calibrate.calibrate import calibrate
from converter.calibrate.obtain_statistics import tensors_to_measure
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
    """Calibrate a Hugging Face folder or GGUF and keep the statistics of all tensors that may get an EOQ type.

    Raises EoqError.
    """
    progress = progress or Progress()
    target = resolve_target(target)
    check_not_input(target, [options.text])
    with open_model(model_path, target, access, threads, progress) as source:
        tensors = tensors_to_measure(source)
        return calibrate(source, model_path, tensors, target, options, threads, progress)
