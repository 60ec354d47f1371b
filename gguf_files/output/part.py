"""One file of an output, while it is made."""

import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from gguf_files.errors import SourceError
from gguf_files.header import MOST_HEAD_BYTES, MetadataEntry, TensorEntry, align, check_loadable, pack_header
from gguf_files.tensors import TensorInfo
from output_files.errors import TargetError
from output_files.whole import explained, put_in_place

_READ_BYTES = 1 << 22


class OutputPart:
    """A GGUF file whose layout is known, and whose tensors are written in any order."""

    def __init__(
        self,
        target: Path,
        entries: Callable[[], Sequence[MetadataEntry]],
        tensors: Sequence[TensorInfo],
        alignment: int,
    ) -> None:
        """`entries` gives the metadata: what of it is known at the end alone has its size from the start."""
        self.target = target
        self.tensors = _layout(tensors, alignment)
        self._entries = entries
        self._alignment = alignment
        try:
            check_loadable(entries(), self.tensors)
        except SourceError as e:
            raise TargetError(f"{target} would be a file that llama.cpp does not load: {e}") from None
        self.head_bytes = len(self.head())
        if self.head_bytes > MOST_HEAD_BYTES:
            raise TargetError(f"{target} would have a header of {self.head_bytes:,} bytes, more than any reader takes")
        self.size = self.head_bytes + sum(align(t.nbytes, alignment) for t in self.tensors)
        """Bytes of the finished file."""
        self._file: BinaryIO | None = None
        self.is_in_place = False
        """Whether it stands under its name already, as an earlier run that was killed then has left it."""

    def head(self) -> bytes:
        return pack_header(self._entries(), self.tensors, self._alignment)

    def begin(self, partial: Path) -> None:
        """Begin the file under the name that it has until it is whole, or go on with it. Raises TargetError."""
        self._partial = partial
        if not partial.exists():
            with explained(f"cannot write {self.target}"):
                partial.touch()
        self.open()
        self._write(0, self.head())

    def open(self) -> None:
        """Raises TargetError."""
        if self._file is None:
            with explained(f"cannot write {self.target}"):
                self._file = self._partial.open("r+b")

    def close(self) -> None:
        """Bring what was written to the disk, and close the file until it is opened again. Raises TargetError."""
        if self._file is not None:
            self.bring_to_disk()
            with explained(f"cannot write {self.target}"):
                self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close the file, whatever becomes of its buffer."""
        if self._file is not None:
            with suppress(OSError):  # it may not fit on a full disk
                self._file.close()
            self._file = None

    def write(self, entry: TensorEntry, pieces: Iterable[NDArray[np.uint8]]) -> int:
        """Write a tensor in pieces of its rows; returns its checksum. Raises TargetError."""
        written = checksum = 0
        for piece in pieces:
            self._write(self.head_bytes + entry.offset + written, piece.data)
            written += piece.nbytes
            checksum = zlib.crc32(piece.data, checksum)
        if written != entry.nbytes:
            raise AssertionError(f"{written} bytes of tensor {entry.name} were made, not {entry.nbytes}")
        padding = bytes(align(written, self._alignment) - written)
        self._write(self.head_bytes + entry.offset + written, padding)
        return checksum

    def holds(self, entry: TensorEntry, checksum: int) -> bool:
        """Whether the unfinished file has these bytes of a tensor already. Raises TargetError."""
        self.open()
        assert self._file is not None
        with explained(f"cannot read {self._partial}"):
            return _holds(self._file, self.head_bytes + entry.offset, entry.nbytes, checksum)

    def bring_to_disk(self) -> None:
        """Make what was written last through a power failure. Raises TargetError."""
        if self._file is not None:
            with explained(f"cannot write {self.target}"):
                self._file.flush()
                os.fsync(self._file.fileno())

    def finish(self) -> None:
        """Write the final head, bring all to the disk and close the file. Raises TargetError."""
        if not self.is_in_place:
            self.open()
            self._write(0, self.head())
            assert self._file is not None
            with explained(f"cannot write {self.target}"):
                self._file.truncate(self.size)
            self.close()

    def check(self, checksums: Sequence[int]) -> None:
        """Read the file again and compare it with what was meant to be in it. Raises TargetError."""
        path = self.target if self.is_in_place else self._partial
        with explained(f"cannot read {path}"):
            same = self._is_whole(path, checksums)
        if not same:
            raise TargetError(f"{self.target} reads back differently from what was written: check the disk")

    def find_in_place(self, checksums: Sequence[int]) -> bool:
        """Look whether the finished file stands under its name, and leave it there if so."""
        try:
            self.is_in_place = self._is_whole(self.target, checksums)
        except OSError:
            self.is_in_place = False
        return self.is_in_place

    def put_in_place(self) -> None:
        """Give the file its name. Raises TargetError."""
        if not self.is_in_place:
            with explained(f"cannot write {self.target}"):
                put_in_place(self._partial, self.target)

    def _is_whole(self, path: Path, checksums: Sequence[int]) -> bool:
        head = self.head()
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size != self.size or file.read(len(head)) != head:
                return False
            pairs = zip(self.tensors, checksums, strict=True)
            return all(_holds(file, len(head) + entry.offset, entry.nbytes, checksum) for entry, checksum in pairs)

    def _write(self, place: int, data: bytes | memoryview) -> None:
        assert self._file is not None
        with explained(f"cannot write {self.target}"):
            if self._file.tell() != place:
                self._file.seek(place)
            self._file.write(data)


def _layout(tensors: Sequence[TensorInfo], alignment: int) -> list[TensorEntry]:
    entries, offset = [], 0
    for t in tensors:
        entries.append(TensorEntry(t.name, t.shape, t.type, offset))
        offset += align(t.nbytes, alignment)
    return entries


def _holds(file: BinaryIO, place: int, size: int, checksum: int) -> bool:
    found = 0
    file.seek(place)
    while size > 0 and (data := file.read(min(size, _READ_BYTES))):
        found = zlib.crc32(data, found)
        size -= len(data)
    return size == 0 and found == checksum
