"""The progress of a release as records of a log, beside whatever else shows it."""

from typing import Any

from converter.release.files import Release, ReleasedFile
from converter.release.make_release import ReleaseProgress
from converter.report import ConversionReport
from converter.report.logged_conversion import LoggedConversion, totals
from evaluation.logged import LoggedEvaluation
from terminal.event_log import EventLog


class LoggedRelease(LoggedConversion, LoggedEvaluation, ReleaseProgress):
    """Hears of progress, writes it to the log and passes it on."""

    _shown: ReleaseProgress

    def __init__(self, log: EventLog, shown: ReleaseProgress) -> None:
        super().__init__(log, shown)

    def file_done(self, report: ConversionReport) -> None:
        self._log.tell("file", **totals(report))
        self._shown.file_done(report)

    def file_kept(self, file: ReleasedFile) -> None:
        self._log.tell("file kept", **_fields(file))
        self._shown.file_kept(file)


def release_totals(release: Release) -> dict[str, Any]:
    """Fields of the record that a release ends with."""
    return {"output": release.folder, "files": [_fields(file) for file in release.files], "card": release.card}


def _fields(file: ReleasedFile) -> dict[str, Any]:
    return {
        "type": file.type,
        "files": list(file.paths),
        "bytes": file.nbytes,
        "bits_per_weight": round(file.bits_per_weight, 4),
    }
