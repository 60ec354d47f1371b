"""Where the statistics of a conversion come from: a file of the user's, or a calibration made for it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from converter.calibrate.calibrate import calibrate, checkpoint_named
from converter.options import ConversionOptions
from converter.statistics import Statistics, check_statistics, open_statistics
from gguf_files.source import Source
from output_files.whole import explained, put_in_place
from terminal.progress import Progress


@contextmanager
def obtain_statistics(
    source: Source, options: ConversionOptions, kept: Path, progress: Progress
) -> Iterator[Statistics]:
    """Statistics of an open model, as long as the context lives.

    Those of a calibration for this conversion alone are `kept`, a file in a folder for unfinished work, from an earlier
    run and for later ones. Raises StatisticsError, CalibrationError, NoProgramError or TargetError.
    """
    if options.statistics is None:
        if not kept.exists():
            _calibrate_in(kept, source, options, progress)
        yield open_statistics(kept)
    elif not options.statistics.exists():
        calibration = replace(options.calibration, resume=options.resume or options.calibration.resume)
        with checkpoint_named(options.statistics):
            done = calibrate(source, options.statistics, calibration, options.threads, progress)
        yield done
    else:
        statistics = open_statistics(options.statistics)
        progress.stage("checking the statistics", 0)
        check_statistics(statistics, source)
        yield statistics


def _calibrate_in(kept: Path, source: Source, options: ConversionOptions, progress: Progress) -> None:
    """Calibrate, going on from a checkpoint if there is one that took as much memory: it has the sums of one pass."""
    name = f"calibration-{options.calibration.memory_limit}"
    for other in kept.parent.glob("calibration-*"):
        if other.name != name:
            shutil.rmtree(other, ignore_errors=True)
    folder = kept.parent / name
    with explained(f"cannot make the folder {folder}"):
        folder.mkdir(exist_ok=True)
    calibration = replace(options.calibration, resume=True)
    done = calibrate(source, folder / kept.name, calibration, options.threads, progress).path
    with explained(f"cannot write {kept}"):
        put_in_place(done, kept)
    shutil.rmtree(folder, ignore_errors=True)
