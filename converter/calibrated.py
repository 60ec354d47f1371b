"""Where the statistics of a conversion come from: a file of the user's, or a calibration made for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from converter.calibrate import calibrate
from converter.options import ConversionOptions
from converter.plan.kept import keep_reason
from converter.progress import Progress
from converter.source import Source
from converter.statistics import Statistics, check_statistics, open_statistics
from converter.tensors import TensorInfo
from eoq_formats.types import weight_type_for_row

_ANY_BITS = 4
"""Whether an EOQ type fits a row does not depend on its bits."""


@contextmanager
def statistics_of(
    model: Source, path: Path, target: Path, options: ConversionOptions, progress: Progress
) -> Iterator[Statistics]:
    """Statistics of the model at `path`, as long as the context lives.

    Those of a calibration for this conversion alone lie in a temporary file beside `target`, or in the work folder.
    Raises StatisticsError, CalibrationError or TargetError.
    """
    calibration = replace(options.calibration, threads=options.threads)
    if options.statistics is not None:
        if not options.statistics.exists():
            yield calibrate(model, path, quantisable(model), options.statistics, calibration, progress)
            return
        statistics = open_statistics(options.statistics)
        progress.stage("checking the statistics", 0)
        check_statistics(statistics, model)
        yield statistics
        return
    with tempfile.TemporaryDirectory(prefix=".eoq-", dir=options.work_dir or target.parent) as scratch:
        file = Path(scratch) / "statistics.gguf"
        yield calibrate(model, path, quantisable(model), file, calibration, progress)


def quantisable(model: Source) -> list[TensorInfo]:
    """All tensors that some options would give an EOQ type, so that statistics serve conversions to any type."""
    return [
        t
        for t in model.tensors
        if keep_reason(t, model.architecture) is None and weight_type_for_row(_ANY_BITS, t.row_length) is not None
    ]
