"""Where an output goes: asked, and refused, before any work is done for it."""

import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from output_files.errors import TargetError
from output_files.sizes import size_text
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


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """There is such a folder; one that was made for work that broke off goes, unless something is in it.

    Raises TargetError.
    """
    is_new = not folder.exists()
    with explained(f"the folder {folder} cannot be made"):
        folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):
                folder.rmdir()
        raise


def check_writable(folder: Path) -> None:
    """Make a file without a name in the folder. Raises TargetError."""
    with explained(f"cannot write in {folder}"), tempfile.TemporaryFile(dir=folder):
        pass


def check_not_input(target: Path, inputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, also through another name of the same file. Raises TargetError.

    An input that is a folder stands for the files in it.
    """
    for path in inputs:
        if path is None:
            continue
        for file in _files_of(path):
            if file.resolve() == target.resolve() or _is_same(target, file):
                raise TargetError(f"the output {target} would write over {file}, which is read; give another name")


def _is_same(first: Path, second: Path) -> bool:
    return first.exists() and second.exists() and first.samefile(second)


def _files_of(path: Path) -> list[Path]:
    try:
        return [file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path]
    except OSError:  # whoever reads the folder will say so
        return []


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Refuse, before hours of work, outputs that cannot be written, or would write over an input or over each other.

    Raises TargetError.
    """
    targets = [resolve_target(path) for path in outputs if path is not None]
    read = [file for path in inputs if path is not None for file in _files_of(path)]
    for number, target in enumerate(targets):
        check_not_input(target, read)
        if any(target == other or _is_same(target, other) for other in targets[:number]):
            raise TargetError(f"two outputs would be written to {target}; give each a name of its own")


def check_space(*needs: tuple[Path, int, str]) -> None:
    """Ask for room for all that will be there at once: folder, bytes, and what it is.

    Raises TargetError if a disk has too little for what goes to its folders together.
    """
    by_disk: dict[int, list[tuple[Path, int, str]]] = {}
    for need in needs:
        by_disk.setdefault(need[0].stat().st_dev, []).append(need)
    for together in by_disk.values():
        folder, needed = together[0][0], sum(size for _, size, _ in together)
        free = shutil.disk_usage(folder).free
        if free < needed:
            what = " and ".join(name for _, _, name in together)
            raise TargetError(
                f"{what} need{'s' * (len(together) == 1)} {size_text(needed)}, "
                f"but the disk of {folder} has only {size_text(free)} left"
            )
