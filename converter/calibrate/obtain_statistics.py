"""Where the statistics of a conversion come from: a file of the user's, or a calibration made for it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.calibrate.calibrate import calibrate
from converter.options import ConversionOptions
from converter.statistics import Statistics, check_statistics, open_statistics
from gguf_files.source import Source
from terminal.progress import Progress


@contextmanager
def obtain_statistics(
    source: Source, target: Path, options: ConversionOptions, progress: Progress
) -> Iterator[Statistics]:
    """Statistics of an open model, as long as the context lives.

    Those of a calibration for this conversion alone lie in a temporary file beside `target`, or in the work folder.
    Raises StatisticsError, CalibrationError, NoProgramError or TargetError.
    """

    def calibrated(file: Path) -> Statistics:
        return calibrate(source, file, options.calibration, options.threads, progress)

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
