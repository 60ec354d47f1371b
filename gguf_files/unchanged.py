"""Files that are read for hours: whether they still are what they were at the start."""

import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from eoq_formats.errors import EoqError
from gguf_files.errors import ChangedSourceError, SourceError, UnreadableError
from input_files.ordinary import check_ordinary


@dataclass(frozen=True)
class FileState:
    """What tells a file from another, and from itself after a change, without reading it."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds."""

    @classmethod
    def of(cls, file: Path | int) -> Self:
        """Of a path or a descriptor. Raises OSError."""
        status = os.fstat(file) if isinstance(file, int) else file.stat()
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class OpenFile:
    """A file of a model, read by position: whoever looks at a mapping of a file that is cut short, or on a disk that
    fails, is killed by a signal. Raises SourceError where it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_ordinary(path, SourceError)
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
            weakref.finalize(self, os.close, self._descriptor)
            self.state = FileState.of(self._descriptor)
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}") from None

    def read(self, start: int, size: int) -> NDArray[np.uint8]:
        """`size` bytes from `start` on, in memory of their own.

        Raises UnreadableError where they cannot be read, or the file is not what it was when it was opened.
        """
        data = np.empty(size, dtype=np.uint8)
        left = data.data
        try:
            while left and (count := os.preadv(self._descriptor, [left], start)):
                left, start = left[count:], start + count
        except OSError as e:
            raise UnreadableError(f"{self.path} cannot be read: {e.strerror}") from None
        if left:
            raise changed(self.path)
        self.check_unchanged()
        return data

    def check_unchanged(self) -> None:
        """Raises UnreadableError where somebody has written to the file. Another file under its name does no harm."""
        if FileState.of(self._descriptor) != self.state:
            raise changed(self.path)


def file_states(paths: Iterable[Path]) -> dict[Path, FileState]:
    """Raises SourceError for a file that cannot be found."""
    states = {}
    for path in paths:
        try:
            states[path] = FileState.of(path)
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}") from None
    return states


@contextmanager
def unchanged(states: Mapping[Path, FileState]) -> Iterator[None]:
    """For work by another program, which opens the files by their names.

    Raises SourceError where one is not what it was, also in place of the error that the program ended with.
    """
    try:
        yield
    except (EoqError, OSError):
        _check(states)
        raise
    _check(states)


def _check(states: Mapping[Path, FileState]) -> None:
    for path, state in states.items():
        try:
            now = FileState.of(path)
        except OSError:
            now = None
        if now != state:
            raise changed(path)


def changed(path: Path) -> ChangedSourceError:
    """The error for a file that is not what it was."""
    return ChangedSourceError(
        f"{path} was changed or cut short while it was read; start again once nothing writes to it"
    )
