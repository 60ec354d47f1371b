"""A GGUF file that is written: under a temporary name beside its final one, checked, then renamed."""

import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from gguf_files.checksums import checksums_entry
from gguf_files.errors import SourceError
from gguf_files.header import MOST_HEAD_BYTES, MetadataEntry, TensorEntry, align, check_loadable, pack_header
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Bytes
from output_files.errors import TargetError
from output_files.whole import explained, partial_file, put_in_place

_READ_BYTES = 1 << 22


class GgufOutput:
    """A GGUF file in the making, as a context: leaving it without `commit` leaves nothing behind.

    Tensors are written in any order, each as its rows in pieces.
    """

    def __init__(
        self,
        target: Path,
        metadata: Sequence[MetadataEntry],
        tensors: Sequence[TensorInfo],
        alignment: int,
        *,
        with_checksums: bool = False,
    ) -> None:
        """With checksums, the metadata ends in an entry with those of all tensors (gguf_files.checksums)."""
        self.target = target
        self.tensors = _layout(tensors, alignment)
        self._alignment = alignment
        self._metadata = list(metadata)
        self._with_checksums = with_checksums
        try:
            check_loadable(metadata, self.tensors)
        except SourceError as e:
            raise TargetError(f"{target} would be a file that llama.cpp does not load: {e}") from None
        self.head = self._pack_head([0] * len(tensors))
        if len(self.head) > MOST_HEAD_BYTES:
            raise TargetError(f"{target} would have a header of {len(self.head):,} bytes, more than any reader takes")
        self.size = len(self.head) + sum(align(t.nbytes, alignment) for t in self.tensors)
        """Bytes of the finished file."""
        self._cleaning = ExitStack()
        self._checksums: dict[int, int] = {}

    def __enter__(self) -> Self:
        try:
            with explained(f"cannot write {self.target}"):
                self._partial = self._cleaning.enter_context(partial_file(self.target))
                self._file = self._cleaning.enter_context(self._partial.open("wb"))
            self._write(self.head)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write_tensor(self, pieces: Iterable[Bytes], number: int | None = None) -> None:
        """Write a tensor, by default the next one."""
        number = len(self._checksums) if number is None else number
        entry = self.tensors[number]
        with explained(f"cannot write {self.target}"):
            self._file.seek(len(self.head) + entry.offset)
        written = checksum = 0
        for piece in pieces:
            self._write(piece.data)
            written += piece.nbytes
            checksum = zlib.crc32(piece.data, checksum)
        if written != entry.nbytes:
            raise AssertionError(f"{written} bytes of tensor {entry.name} were made, not {entry.nbytes}")
        self._checksums[number] = checksum
        self._write(bytes(align(written, self._alignment) - written))

    def commit(self) -> None:
        """Bring the file to the disk, open it again and check it, and give it its name. Raises TargetError."""
        with explained(f"cannot write {self.target}"):
            if self._with_checksums:
                # zeros have kept the place
                self.head = self._pack_head(self._in_order())
                self._file.seek(0)
                self._file.write(self.head)
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._check()
            put_in_place(self._partial, self.target)

    def _in_order(self) -> list[int]:
        return [self._checksums[number] for number in range(len(self.tensors))]

    def _pack_head(self, checksums: Sequence[int]) -> bytes:
        entries = [*self._metadata, checksums_entry(checksums)] if self._with_checksums else self._metadata
        return pack_header(entries, self.tensors, self._alignment)

    def _write(self, data: bytes | memoryview) -> None:
        with explained(f"cannot write {self.target}"):
            self._file.write(data)

    def _check(self) -> None:
        """Read the file again and compare it with what was meant to be in it. Raises TargetError."""
        with self._partial.open("rb") as file:
            same = os.fstat(file.fileno()).st_size == self.size and file.read(len(self.head)) == self.head
            for entry, checksum in zip(self.tensors, self._in_order(), strict=True):
                file.seek(len(self.head) + entry.offset)
                same = same and _checksum_of(file, entry.nbytes) == checksum
        if not same:
            raise TargetError(f"{self.target} reads back differently from what was written: check the disk")

    def _discard(self) -> None:
        with suppress(OSError):  # the rest of the buffer may not fit on a full disk
            self._cleaning.close()


def _layout(tensors: Sequence[TensorInfo], alignment: int) -> list[TensorEntry]:
    entries, offset = [], 0
    for t in tensors:
        entries.append(TensorEntry(t.name, t.shape, t.type, offset))
        offset += align(t.nbytes, alignment)
    return entries


def _checksum_of(file: BinaryIO, size: int) -> int:
    checksum = 0
    while size > 0 and (data := file.read(min(size, _READ_BYTES))):
        checksum = zlib.crc32(data, checksum)
        size -= len(data)
    return checksum
