"""The note that apply leaves in a tree: which files it copied and edited, so that any version can revert it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from ggml_patch.errors import PatchError

MANIFEST = ".eoq-patch.json"


@dataclass(frozen=True)
class Manifest:
    """What one version of the patch did to a tree."""

    key: str
    edited: list[str]
    copied: dict[str, str]
    """Path in the tree: SHA-256 of what was written."""

    @classmethod
    def read(cls, tree: Path) -> "Manifest | None":
        """The note in `tree`, None if there is none. Raises PatchError if it cannot be understood."""
        file = tree / MANIFEST
        if not file.is_file():
            return None
        try:
            data = json.loads(file.read_text())
            note = cls(key=data["key"], edited=list(data["edited"]), copied=dict(data["copied"]))
            if not all(_stays_inside(path) for path in (*note.edited, *note.copied)):
                raise ValueError("a path leads out of the tree")
        except (ValueError, TypeError, KeyError) as error:
            raise PatchError(f"{file} is damaged ({error!r}); restore the tree and delete this file") from error
        return note

    def write(self, tree: Path) -> None:
        """Put the note into `tree`."""
        temporary = tree / f"{MANIFEST}.new"
        temporary.write_text(json.dumps(asdict(self), indent=1) + "\n")
        temporary.replace(tree / MANIFEST)


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts
