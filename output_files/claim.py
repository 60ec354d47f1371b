"""Outputs belong to one run at a time; what it has kept of them is known when it breaks off."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from output_files.errors import TargetError
from output_files.interruptions import uninterrupted
from output_files.leftovers import remove_leftovers
from output_files.locks import lock
from output_files.target import check_outputs, resolve_target

_LONGEST = 240
"""Bytes of a name that has room for a dot before and `.lock` behind."""
_WITHOUT = -1
"""In place of a descriptor."""
_kept: dict[str, None] = {}


@contextmanager
def claimed(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> Iterator[None]:
    """For the time that some files are worked on, before any of the work: nobody else may write them meanwhile.

    Raises TargetError as `check_outputs` does, and where another run is writing one of them. What killed runs have
    left beside them is removed. If the work breaks off, `kept` tells which of them were finished.
    """
    targets = [resolve_target(path) for path in outputs if path is not None]
    check_outputs(targets, inputs)
    with ExitStack() as locks:
        for target in targets:
            locks.enter_context(_locked(target))
        for folder in dict.fromkeys(target.parent for target in targets):
            remove_leftovers(folder, targets)
        before = [_identity(target) for target in targets]
        try:
            yield
        except BaseException:
            for target, old in zip(targets, before, strict=True):
                if _identity(target) not in (None, old):
                    keep(f"{target} is complete")
            raise


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """The lock has a name of its own, as the target is another file at each run; none is left behind but by a kill."""
    name = target.name
    if len(os.fsencode(name)) > _LONGEST:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    path = target.with_name(f".{name}.lock")
    descriptor = None
    try:
        with uninterrupted():
            descriptor = _lock_if_possible(path)
        if descriptor is None:
            raise TargetError(f"another run is writing {target} at this moment; wait for its end, or give another name")
        yield
    finally:
        if descriptor is not None and descriptor != _WITHOUT:
            path.unlink(missing_ok=True)
            os.close(descriptor)


def _lock_if_possible(path: Path) -> int | None:
    try:
        return lock(path)
    except OSError:  # somebody else's: there is no harm in doing without
        return _WITHOUT


def keep(words: str) -> None:
    """Remember what is left of work that breaks off, for the line that the tool ends with."""
    _kept[words] = None


def kept() -> list[str]:
    """All that was to be remembered since the last call."""
    words = list(_kept)
    _kept.clear()
    return words


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
