"""Ordinary files: a pipe would be waited for without end, and a device never ends."""

import stat
from pathlib import Path

from eoq_formats.errors import EoqError


def check_ordinary(path: Path, error: type[EoqError], what: str = "", *, most: int | None = None) -> int:
    """The size in bytes of a file that can be read to its end, and has `most` bytes at most.

    Raises `error`, which names it `what` and its path.
    """
    try:
        status = path.stat()
    except OSError as e:
        raise error(f"{_named(what, path)} cannot be read: {e.strerror}") from None
    except ValueError:
        raise error(f"{_named(what, path)} cannot be read: its name has a NUL; give another") from None
    if stat.S_ISDIR(status.st_mode):
        raise error(f"{_named(what, path)} cannot be read: it is a folder; give a file")
    if not stat.S_ISREG(status.st_mode):
        raise error(f"{_named(what, path)} cannot be read: it is a pipe or a device; give an ordinary file")
    if most is not None and status.st_size > most:
        raise error(
            f"{_named(what, path)} has {status.st_size:,} bytes, and no more than {most:,} are read; "
            "give a shorter file"
        )
    return status.st_size


def read_ordinary(path: Path, error: type[EoqError], what: str = "", *, most: int) -> bytes:
    """The bytes of a file. Raises `error`, also for one of more than `most` bytes."""
    size = check_ordinary(path, error, what, most=most)
    try:
        with path.open("rb") as file:
            # what grows meanwhile, such as a log, is read as far as it was
            return file.read(size)
    except OSError as e:
        raise error(f"{_named(what, path)} cannot be read: {e.strerror}") from None


def read_text(path: Path, error: type[EoqError], what: str = "", *, most: int) -> str:
    """The text of a file in UTF-8. Raises `error`."""
    try:
        return read_ordinary(path, error, what, most=most).decode("utf-8")
    except UnicodeDecodeError as e:
        raise error(f"{_named(what, path)} is not UTF-8 text (byte {e.start}); give one in UTF-8") from None


def _named(what: str, path: Path) -> str:
    return f"{what} {path}" if what else str(path)
