"""A folder that appears under its name whole, or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from output_files.errors import TargetError
from output_files.leftovers import scratch_folder
from output_files.target import check_writable
from output_files.whole import bring_to_disk, explained


def check_new_folder(target: Path) -> Path:
    """Where a new folder of this name would lie. Raises TargetError if none can be made, or it has something in it."""
    with explained(f"the output {target} cannot be"):
        resolved = target.resolve()
        if resolved.exists() and not resolved.is_dir():
            raise TargetError(f"the output {target} is a file, and a folder is written; give another name")
        if resolved.is_dir() and any(resolved.iterdir()):
            raise TargetError(f"the folder {target} is not empty; give the name of a new one")
    if not resolved.parent.is_dir():
        raise TargetError(f"the folder {resolved.parent} of the output does not exist; make it first")
    check_writable(resolved.parent)
    return resolved


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target`, whose name it takes at the end of the context; after an error it is gone.

    Raises TargetError, also for errors of the operating system inside the context.
    """
    target = check_new_folder(target)
    with scratch_folder(target.parent) as scratch, explained(f"cannot write {target}"):
        folder = scratch / "made"
        folder.mkdir()
        yield folder
        for file in folder.iterdir():
            bring_to_disk(file)
        bring_to_disk(folder)
        folder.replace(target)  # an empty folder gives way
        bring_to_disk(target.parent)
