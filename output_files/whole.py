"""Files that appear under their name whole, or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from output_files.errors import TargetError


@contextmanager
def whole_or_not(target: Path) -> Iterator[Path]:
    """A temporary file's name beside `target`, which it takes at the end of the context; after an error it is gone.

    Raises TargetError for errors of the operating system, also for those inside the context.
    """
    temporary = temporary_name(target)
    with explained(f"cannot write {target}"):
        try:
            yield temporary
            bring_to_disk(temporary)
            temporary.replace(target)
            bring_to_disk(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_whole(target: Path, content: str | bytes) -> None:
    """Write a file in one piece, text as UTF-8, replacing an older one. Raises TargetError."""
    with whole_or_not(target) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def temporary_name(target: Path) -> Path:
    """A hidden name beside the target that nobody else has."""
    return target.with_name(f".{target.name[:64]}.{secrets.token_hex(8)}.part")


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
        raise TargetError(f"{what}: {e.strerror}") from None
