"""The output file: written under a temporary name beside its final one, checked, then renamed."""

import os
import secrets
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from converter.errors import TargetError
from converter.gguf_header import MetadataEntry, TensorEntry, align, pack_header
from converter.tensors import TensorInfo
from converter.weights import Bytes

_READ_BYTES = 1 << 22


def resolve_target(path: Path) -> Path:
    """Where a file of this name would lie: links are followed. Raises TargetError if none can be written there."""
    with _explained(f"the output {path} cannot be"):
        target = path.resolve()
        is_folder, exists = target.is_dir(), target.exists()
    folder = target.parent
    if not folder.is_dir():
        raise TargetError(f"the folder {folder} of the output does not exist; make it first")
    if is_folder:
        raise TargetError(f"the output {path} is a folder; give the name of a file")
    if exists and not stat.S_ISREG(target.stat().st_mode):
        raise TargetError(f"the output {path} is not an ordinary file")
    check_writable(folder)
    return target


def check_writable(folder: Path) -> None:
    """Make a file without a name in the folder. Raises TargetError."""
    with _explained(f"cannot write in {folder}"), tempfile.TemporaryFile(dir=folder):
        pass


def check_not_source(target: Path, sources: Sequence[Path]) -> None:
    """Refuse to write over what is read, also through another name of the same file. Raises TargetError."""
    if not target.exists():
        return
    for source in sources:
        if target.samefile(source):
            raise TargetError(f"the output {target} is the file that is converted; give another name")


def check_not_input(target: Path, inputs: Sequence[Path | None]) -> None:
    """Refuse to replace what a conversion reads beside the model, or is to keep. Raises TargetError."""
    for path in inputs:
        if path is None:
            continue
        if path.resolve() == target or (path.exists() and target.exists() and target.samefile(path)):
            raise TargetError(
                f"{path} cannot be both read and written over by {target.name}; give the output another name"
            )


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises TargetError if the folder's disk has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TargetError(f"{what} needs {_size(needed)}, but the disk of {folder} has only {_size(free)} left")


class GgufOutput:
    """A GGUF file in the making, as a context: leaving it without `commit` leaves nothing behind.

    Tensors are written in the order given, each as its rows in pieces.
    """

    def __init__(
        self, target: Path, metadata: Sequence[MetadataEntry], tensors: Sequence[TensorInfo], alignment: int
    ) -> None:
        self.target = target
        self.tensors = _layout(tensors, alignment)
        self.head = pack_header(metadata, self.tensors, alignment)
        self.size = len(self.head) + sum(align(t.nbytes, alignment) for t in self.tensors)
        """Bytes of the finished file."""
        self._alignment = alignment
        self._temporary = temporary_name(target)
        self._checksums: list[int] = []

    def __enter__(self) -> Self:
        with _explained(f"cannot write {self.target}"):
            self._file = self._temporary.open("xb")
        try:
            self._write(self.head)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write_tensor(self, pieces: Iterable[Bytes]) -> None:
        """Write the next tensor."""
        entry = self.tensors[len(self._checksums)]
        written = checksum = 0
        for piece in pieces:
            self._write(piece.data)
            written += piece.nbytes
            checksum = zlib.crc32(piece.data, checksum)
        if written != entry.nbytes:
            raise AssertionError(f"{written} bytes of tensor {entry.name} were made, not {entry.nbytes}")
        self._checksums.append(checksum)
        self._write(bytes(align(written, self._alignment) - written))

    def commit(self) -> None:
        """Bring the file to the disk, open it again and check it, and give it its name. Raises TargetError."""
        with _explained(f"cannot write {self.target}"):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._check()
            self._temporary.replace(self.target)
            _sync_folder(self.target.parent)

    def _write(self, data: bytes | memoryview) -> None:
        with _explained(f"cannot write {self.target}"):
            self._file.write(data)

    def _check(self) -> None:
        """Read the file again and compare it with what was meant to be in it. Raises TargetError."""
        with self._temporary.open("rb") as file:
            same = os.fstat(file.fileno()).st_size == self.size and file.read(len(self.head)) == self.head
            for entry, checksum in zip(self.tensors, self._checksums, strict=True):
                file.seek(len(self.head) + entry.offset)
                same = same and _checksum_of(file, entry.nbytes) == checksum
        if not same:
            raise TargetError(f"{self.target} reads back differently from what was written: check the disk")

    def _discard(self) -> None:
        with suppress(OSError):  # the rest of the buffer may not fit on a full disk
            self._file.close()
        self._temporary.unlink(missing_ok=True)


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


@contextmanager
def whole_or_not(target: Path) -> Iterator[Path]:
    """A temporary file's name beside `target`, which it takes at the end of the context; after an error it is gone."""
    temporary = temporary_name(target)
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_name(target: Path) -> Path:
    """A hidden name beside the target that nobody else has."""
    return target.with_name(f".{target.name[:64]}.{secrets.token_hex(8)}.part")


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power failure; not every file system offers that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the operating system's errors into TargetError."""
    try:
        yield
    except OSError as e:
        raise TargetError(f"{what}: {e.strerror}") from None
