"""Files that are read for hours: whether they still are what they were at the start."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from eoq_formats.errors import EoqError
from gguf_files.errors import ChangedSourceError, SourceError


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
