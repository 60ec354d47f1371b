"""Where the statistics of a conversion come from: a file of the user's, or a calibration made for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.calibrate.calibrate import calibrate
from converter.options import ConversionOptions
from converter.plan.keep_rules import keep_reason
from converter.statistics import Statistics, check_statistics, open_statistics
from eoq_formats.types import block_width
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress


@contextmanager
def obtain_statistics(
    source: Source, model_path: Path, target: Path, options: ConversionOptions, progress: Progress
) -> Iterator[Statistics]:
    """Statistics of an open model, as long as the context lives.

    Those of a calibration for this conversion alone lie in a temporary file beside `target`, or in the work folder.
    Raises StatisticsError, CalibrationError or TargetError.
    """

    def calibrated(file: Path) -> Statistics:
        tensors = tensors_to_measure(source)
        return calibrate(source, model_path, tensors, file, options.calibration, options.threads, progress)

    if options.statistics is not None:
        if not options.statistics.exists():
            yield calibrated(options.statistics)
            return
        statistics = open_statistics(options.statistics)
        progress.stage("checking the statistics", 0)
        check_statistics(statistics, source)
        yield statistics
        return
    with tempfile.TemporaryDirectory(prefix=".eoq-", dir=options.source.work_dir or target.parent) as scratch:
        yield calibrated(Path(scratch) / "statistics.gguf")


def tensors_to_measure(source: Source) -> list[TensorInfo]:
    """All tensors that some options would give an EOQ type, so that statistics serve conversions to any type."""
    return [
        t
        for t in source.tensors
        if keep_reason(t, source.architecture) is None and block_width(t.row_length) is not None
    ]
