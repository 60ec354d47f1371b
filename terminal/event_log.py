"""Progress for programs (`--log-json`): a line of JSON for each record, written at once; docs/log_json.md has them."""

import io
import json
import logging
import os
import stat
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from output_files.errors import TargetError
from output_files.json_text import json_text
from output_files.target import check_outputs
from output_files.whole import explained
from terminal.pace import Pace

VERSION = 1
"""Version of the records."""
STANDARD_ERROR = "-"
_SECONDS = 1.0
"""At least, from one record of progress to the next."""
_LONGEST_LINE = 1 << 16
_LOGGER = logging.getLogger("eoq")


class EventLog:
    """The log of one run of a tool. Until it is opened, and where no place is named, it says nothing."""

    def __init__(self, place: str | None, tool: str) -> None:
        """`place` is a file, or STANDARD_ERROR, whose every line is a record then; None for no log."""
        self._place = place
        self._tool = tool
        self._stream: TextIO | None = None
        self._stage: str | None = None
        self._pace = Pace(None)
        self._told = -_SECONDS
        self._told_done = 0
        self._handlers: list[logging.Handler] = []

    @property
    def takes_standard_error(self) -> bool:
        """Whether standard error is for records alone."""
        return self._place == STANDARD_ERROR

    def open(self, outputs: Iterable[Path | None] = ()) -> None:
        """Begin the log, replacing that of an earlier run. Raises TargetError if it would take the place of any other
        file, or of one of the `outputs`.
        """
        if self._place is None:
            return
        if self.takes_standard_error:
            self._stream = sys.stderr
        else:
            self._stream = _opened(Path(self._place), outputs)
        self._hear_notes()
        self._write("start", tool=self._tool, version=VERSION)

    def stage(self, name: str, total: int, **fields: object) -> None:
        """A stage begins that has `total` units of work; 0 when that is not known."""
        self._stage, self._pace = name, Pace(total or None)
        self._told, self._told_done = -_SECONDS, 0
        self._write("stage", stage=name, total=self._pace.total, **fields)

    def advance(self, amount: int) -> None:
        """So many more units of the stage's work are done."""
        self._pace.advance(amount)
        self._progress()

    def skip(self, amount: int) -> None:
        """So many units of the stage's work were done by an earlier run."""
        self._pace.skip(amount)
        self._progress()

    def set(self, done: int, total: int) -> None:
        """So many of so many units of the stage's work are done."""
        self._pace.set(done, total)
        self._progress()

    def tell(self, event: str, **fields: object) -> None:
        """A record with how far the stage is and more fields."""
        self._write(event, **self._where(), **fields)

    def ended(self, **fields: object) -> None:
        """The last record of a run that went well."""
        self._write("end", **fields)
        self._close()

    def failed(self, error: str, status: int) -> bool:
        """The last record of a run that did not; returns whether the user sees it on standard error."""
        if self._stream is None and self.takes_standard_error:
            self._stream = sys.stderr
        self._write("error", stage=self._stage, error=error, status=status)
        shown = self._stream is not None and self.takes_standard_error
        self._close()
        return shown

    def _hear_notes(self) -> None:
        """What the library logs becomes a record too, beside the line on standard error."""
        self._handlers = [_Notes(self)]
        if not self.takes_standard_error:
            self._handlers.append(logging.StreamHandler())
        for handler in self._handlers:
            _LOGGER.addHandler(handler)

    def _progress(self) -> None:
        now = time.monotonic()
        is_done = self._pace.done == self._pace.total and self._told_done != self._pace.done
        if is_done or now - self._told >= _SECONDS:
            self._told, self._told_done = now, self._pace.done
            self._write("progress", **self._where())

    def _where(self) -> dict[str, object]:
        left, done, total = self._pace.seconds_left, self._pace.done, self._pace.total
        eta = None if left is None else round(left, 1)
        # the size of a file that another program writes is an estimate
        return {"stage": self._stage, "done": done if total is None else min(done, total), "total": total, "eta": eta}

    def _write(self, event: str, **fields: object) -> None:
        """Work does not end for want of a log: where the disk is full, or nobody reads any more, it goes on without."""
        if self._stream is None:
            return
        record = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        try:
            self._stream.write(json_text(record) + "\n")
            self._stream.flush()
        except OSError as error:
            self._close()
            if not self.takes_standard_error:
                print(f"warning: cannot write {self._place} any more: {error.strerror or error}", file=sys.stderr)

    def _close(self) -> None:
        for handler in self._handlers:
            _LOGGER.removeHandler(handler)
        self._handlers = []
        stream, self._stream = self._stream, None
        if stream is not None and stream is not sys.stderr:
            with suppress(OSError):
                stream.close()


class _Notes(logging.Handler):
    """Hands what is logged to the records."""

    def __init__(self, log: EventLog) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.tell("note", note=record.getMessage().removeprefix("note: "))


def _opened(path: Path, outputs: Iterable[Path | None]) -> TextIO:
    """Raises TargetError."""
    with explained(f"cannot write {path}"):
        is_special = path.exists() and not path.is_dir() and not stat.S_ISREG(path.stat().st_mode)
    if not is_special:  # pipes and terminals are written to as they are
        check_outputs([*outputs, path])
        if not _is_log(path):
            raise TargetError(f"{path} exists and is no log of an earlier run; give --log-json another name")
    with explained(f"cannot write {path}"):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | (0 if is_special else os.O_TRUNC), 0o666)
        return io.TextIOWrapper(os.fdopen(descriptor, "wb", buffering=0), encoding="utf-8", write_through=True)


def _is_log(path: Path) -> bool:
    """Whether a file may be replaced: it is not there, empty, or begins with a record. Raises TargetError."""
    with explained(f"cannot read {path}"):
        if not path.exists():
            return True
        with path.open("rb") as file:
            line = file.readline(_LONGEST_LINE)
    if not line:
        return True
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and list(record)[:2] == ["time", "event"]
