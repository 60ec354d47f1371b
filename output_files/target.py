"""Where an output goes: asked, and refused, before any work is done for it."""

import shutil
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path

from output_files.errors import TargetError
from output_files.whole import explained


def resolve_target(path: Path) -> Path:
    """Where a file of this name would lie: links are followed. Raises TargetError if none can be written there."""
    with explained(f"the output {path} cannot be"):
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
    with explained(f"cannot write in {folder}"), tempfile.TemporaryFile(dir=folder):
        pass


def check_not_input(target: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, also through another name of the same file. Raises TargetError."""
    for path in inputs:
        if path is None:
            continue
        if path.resolve() == target.resolve() or (path.exists() and target.exists() and target.samefile(path)):
            raise TargetError(f"the output {target} would write over {path}, which is read; give another name")


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse, before hours of work, outputs that cannot be written or would write over an input. Raises TargetError."""
    read = list(inputs)
    for path in outputs:
        if path is not None:
            check_not_input(resolve_target(path), read)


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises TargetError if the folder's disk has less room than `needed` bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise TargetError(f"{what} needs {_size(needed)}, but the disk of {folder} has only {_size(free)} left")


def _size(count: int) -> str:
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"
