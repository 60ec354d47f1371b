"""Files that appear under their name whole, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from output_files.errors import TargetError
from output_files.interruptions import uninterrupted
from output_files.locks import lock_new

_LONGEST = 200
"""Bytes of a target's name that stand in those of its temporary files: names have 255 at most."""


@contextmanager
def whole_or_not(target: Path) -> Iterator[Path]:
    """An empty file beside `target`, whose name it takes at the end of the context; after an error it is gone.

    Raises TargetError for errors of the operating system, also for those inside the context.
    """
    with explained(f"cannot write {target}"), partial_file(target) as partial:
        yield partial
        put_in_place(partial, target)


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file in one piece, text as UTF-8, replacing an older one. Raises TargetError."""
    with whole_or_not(target) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def partial_file(target: Path) -> Iterator[Path]:
    """A new empty file under a hidden name beside `target`, gone after the context unless it got another name.

    It is locked meanwhile: nobody takes it for a leftover (`output_files.leftovers`). Raises OSError.
    """
    descriptor = None
    try:
        with uninterrupted():
            while descriptor is None:
                path = target.with_name(f"{partial_prefix(target)}{secrets.token_hex(8)}.part")
                descriptor = lock_new(path)
        yield path
    finally:
        if descriptor is not None:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def partial_prefix(target: Path) -> str:
    """How the names of a target's temporary files begin."""
    return f".{os.fsencode(target.name)[:_LONGEST].decode(errors='ignore')}."


def put_in_place(partial: Path, target: Path) -> None:
    """Bring a file to the disk and give it its name. Raises OSError."""
    bring_to_disk(partial)
    partial.replace(target)
    bring_to_disk(target.parent)


def bring_to_disk(path: Path) -> None:
    """Make a file, or the names in a folder, last through a power failure; not every file system offers that."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the operating system's errors into TargetError."""
    try:
        yield
    except OSError as e:
        raise TargetError(f"{what}: {e.strerror or e}") from None
