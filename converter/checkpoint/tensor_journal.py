"""Which tensors of an unfinished output are finished: a line of JSON for each."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from converter.plan import TensorPlan
from converter.report import TensorRecord
from input_files.ordinary import read_ordinary
from input_files.structured import parse_json
from output_files.errors import TargetError
from output_files.json_text import exact_json
from output_files.whole import explained, write_whole

_MOST_BYTES = 1 << 30
_SHARE = 8
"""For each second that the disk takes, so many go by until it is asked again."""


@dataclass(frozen=True)
class FinishedTensor:
    """A tensor whose bytes are in the unfinished output."""

    checksum: int
    """CRC-32 of its bytes."""
    record: TensorRecord


class TensorJournal:
    """Lines for finished tensors. As a context it is open for more; an error in it loses none."""

    def __init__(self, path: Path, bring_to_disk: Callable[[], None]) -> None:
        """`bring_to_disk` makes all tensors that were added last through a power failure."""
        self._path = path
        self._bring_to_disk = bring_to_disk
        self._pending: list[bytes] = []
        self._next_time = 0.0

    def read(self, plans: Sequence[TensorPlan]) -> dict[int, FinishedTensor]:
        """What an earlier run has written, by number of the tensor. Lines that are cut off or damaged are left out."""
        if not self._path.exists():
            return {}
        numbers = {plan.tensor.name: number for number, plan in enumerate(plans)}
        found = {}
        for line in read_ordinary(self._path, TargetError, "the journal", most=_MOST_BYTES).splitlines():
            try:
                entry: Any = parse_json(line.decode(), TargetError, "the journal")
                number = numbers[entry["name"]]
                checksum = entry["crc32"]
                if type(checksum) is not int or not 0 <= checksum < 1 << 32:
                    continue
                found[number] = FinishedTensor(checksum, TensorRecord.of_figures(plans[number], entry["figures"]))
            except (TargetError, ValueError, KeyError, TypeError, OverflowError):
                continue
        return found

    def begin(self, kept: Iterable[FinishedTensor]) -> None:
        """Write these alone, in place of what was in it. Raises TargetError."""
        write_whole(self._path, b"".join(map(_line, kept)))

    def add(self, tensor: FinishedTensor) -> None:
        """A tensor that was written. Its line follows once the tensor is on the disk. Raises TargetError."""
        self._pending.append(_line(tensor))
        if time.monotonic() >= self._next_time:
            self._write()

    def __enter__(self) -> Self:
        with explained(f"cannot write {self._path}"):
            self._file: BinaryIO = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(TargetError, OSError):  # the tensors are made again
            self._write()
        with suppress(OSError):
            self._file.close()

    def _write(self) -> None:
        if not self._pending:
            return
        started = time.monotonic()
        self._bring_to_disk()
        with explained(f"cannot write {self._path}"):
            self._file.write(b"".join(self._pending))
            self._file.flush()
            os.fsync(self._file.fileno())
        self._pending.clear()
        ended = time.monotonic()
        self._next_time = ended + _SHARE * (ended - started)


def _line(tensor: FinishedTensor) -> bytes:
    entry: Mapping[str, object] = {
        "name": tensor.record.plan.tensor.name,
        "crc32": tensor.checksum,
        "figures": tensor.record.figures,
    }
    return exact_json(entry).encode() + b"\n"
