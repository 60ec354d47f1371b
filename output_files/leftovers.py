"""What killed runs have left: found by its name, known by a lock that nobody holds any more, and removed."""

import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from output_files.interruptions import uninterrupted
from output_files.locks import lock, lock_leftover
from output_files.sizes import size_text
from output_files.whole import explained, partial_prefix

_log = logging.getLogger("eoq")
_HEX = "[0-9a-f]{16}"
_SCRATCH = re.compile(rf"\.eoq-{_HEX}")
_LOCK = ".lock"
_NAMED = 4
"""Leftovers that the line names one by one."""


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new empty folder in `parent`, gone after the context; those that killed runs left there are removed before.

    Raises TargetError.
    """
    remove_leftovers(parent)
    made: tuple[Path, int] | None = None
    try:
        with explained(f"cannot make a temporary folder in {parent}"), uninterrupted():
            made = folder, _ = _new_scratch(parent)
        files = folder / "files"  # the lock stays out of sight
        files.mkdir()
        yield files
    finally:
        if made is not None:
            shutil.rmtree(made[0], ignore_errors=True)
            os.close(made[1])


def _new_scratch(parent: Path) -> tuple[Path, int]:
    while True:
        folder = parent / f".eoq-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o700)
        # as long as there is no lock in it, others may take it for a leftover
        with suppress(FileNotFoundError):
            descriptor = lock(folder / _LOCK)
            if descriptor is not None:
                return folder, descriptor


def remove_leftovers(folder: Path, targets: Iterable[Path] = ()) -> None:
    """Remove what killed runs have left in a folder: scratch folders, and unfinished files of `targets`; say so.

    What a running process holds stays, and so does whatever cannot be removed.
    """
    prefixes = [re.escape(partial_prefix(target)) for target in targets if target.parent == folder]
    partial = re.compile(rf"(?:{'|'.join(prefixes)}){_HEX}\.part") if prefixes else None
    found: dict[str, int] = {}
    try:
        entries = list(folder.iterdir())
    except OSError:
        return  # whoever wants to write there will say so
    for entry in entries:
        size = None
        if _SCRATCH.fullmatch(entry.name):
            size = _remove_scratch(entry)
        elif partial is not None and partial.fullmatch(entry.name):
            size = _remove_partial(entry)
        if size is not None:
            found[entry.name] = size
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        names = ", ".join(sorted(found)[:_NAMED]) + more
        _log.warning(
            "note: removed what a killed run left in %s: %s (%s)", folder, names, size_text(sum(found.values()))
        )


def _remove_partial(path: Path) -> int | None:
    """Returns the size of what is gone."""
    descriptor = lock_leftover(path)
    if descriptor is None:
        return None
    try:
        size = os.fstat(descriptor).st_size
        path.unlink()
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return size


def _remove_scratch(folder: Path) -> int | None:
    """Returns the size of what is gone."""
    try:
        status = folder.lstat()
        if folder.is_symlink() or not folder.is_dir() or status.st_uid != os.geteuid():
            return None
        if not (folder / _LOCK).exists():
            folder.rmdir()  # killed before the lock was there; it fails if there is anything else
            return 0
        size = sum(path.lstat().st_size for path in folder.rglob("*"))
    except OSError:
        return None
    descriptor = lock_leftover(folder / _LOCK)
    if descriptor is None:
        return None
    shutil.rmtree(folder, ignore_errors=True)
    os.close(descriptor)
    return None if folder.exists() else size
