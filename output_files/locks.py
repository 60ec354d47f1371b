"""Locks that end with their process: so what a killed run has left is told from what a running one is at work on."""

import fcntl
import os
import stat
from pathlib import Path


def lock_new(path: Path) -> int | None:
    """Make a file and lock it. Returns its descriptor, None where another run took it for a leftover at once.

    Raises FileExistsError where there is one, or another OSError. A file system without locks is no error.
    """
    descriptor = _locked(path, os.O_CREAT | os.O_EXCL)
    if descriptor is not None and not _is_at(path, descriptor):
        os.close(descriptor)
        return None
    return descriptor


def lock(path: Path) -> int | None:
    """Lock a file, which is made if there is none. Returns its descriptor, None where another run holds it."""
    while True:
        descriptor = _locked(path, os.O_CREAT)
        if descriptor is None or _is_at(path, descriptor):
            return descriptor
        os.close(descriptor)  # whoever held it has removed it meanwhile


def lock_leftover(path: Path) -> int | None:
    """Lock an ordinary file that no running process holds. Returns its descriptor; None if in any doubt."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISREG(os.fstat(descriptor).st_mode) and _is_at(path, descriptor):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def _locked(path: Path, flags: int) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks
        pass
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except OSError:
        return False
