"""Where the statistics of a conversion come from: a file of the user's, or a calibration made for it."""

import glob
import logging
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.calibrate.calibrate import calibrate
from converter.options import ConversionOptions
from converter.statistics import Statistics, check_statistics, open_statistics
from gguf_files.source import Source
from output_files.claim import keep
from output_files.leftovers import scratch_folder
from output_files.whole import explained
from terminal.progress import Progress

_log = logging.getLogger("eoq")


@contextmanager
def obtain_statistics(
    source: Source, target: Path, options: ConversionOptions, progress: Progress
) -> Iterator[Statistics]:
    """Statistics of an open model, as long as the context lives.

    Those of a calibration for this conversion alone lie beside `target`, or in the work folder, from the moment that
    they are done, and are removed at the end; if the conversion breaks off they stay. Raises StatisticsError,
    CalibrationError, NoProgramError or TargetError.
    """

    def calibrated(file: Path) -> Statistics:
        return calibrate(source, file, options.calibration, options.threads, progress)

    if options.statistics is not None:
        if not options.statistics.exists():
            yield calibrated(options.statistics)
            return
        statistics = open_statistics(options.statistics)
        progress.stage("checking the statistics", 0)
        yield check_statistics(statistics, source)
        return
    folder = options.source.work_dir or target.parent
    for earlier in folder.glob(f"{glob.escape(target.name)}.{'[0-9a-f]' * 8}.stats"):
        _log.warning("note: %s is the calibration of a run that broke off: --stats uses it", earlier)
    file = folder / f"{target.name}.{secrets.token_hex(4)}.stats"
    try:
        with scratch_folder(folder) as scratch:
            done = calibrated(scratch / "statistics.gguf").path
            with explained(f"cannot write {file}"):
                done.rename(file)
        yield open_statistics(file)
    except BaseException:
        if file.exists():
            keep(f"the calibration is kept in {file}: go on with --stats {file}")
        raise
    file.unlink(missing_ok=True)
