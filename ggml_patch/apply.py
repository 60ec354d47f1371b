"""Apply our sources and edits to a llama.cpp tree, check that they fit, take them out again, or print them as a patch.

Nothing is written before every anchor of every file has been found. A tree that holds an older version of the patch, or
part of it, is brought up to date: blocks of ours are taken out first, so edits always meet the original text.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ggml_patch import blocks
from ggml_patch.edit import Edit, place
from ggml_patch.edits import edits
from ggml_patch.errors import PatchError
from ggml_patch.manifest import MANIFEST, Manifest
from ggml_patch.sources import Source, sources
from ggml_patch.textfile import TextFile

_LANDMARKS = ("ggml/include/ggml.h", "include/llama.h")


class State(Enum):
    """How far a tree is patched."""

    ORIGINAL = "not patched"
    PATCHED = "patched"
    OTHER = "patched by another version of the edits, or in part"


@dataclass(frozen=True)
class Change:
    """A file of the tree before and after; None where it does not exist."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Patch:
    """What is to be put into a tree. The default is everything of this project."""

    edits: Sequence[Edit]
    sources: Sequence[Source]

    @classmethod
    def ours(cls) -> "Patch":
        return cls(edits(), sources())

    def key(self) -> str:
        """SHA-256 over all that the patch puts into a tree, as 64 hexadecimal digits."""
        digest = hashlib.sha256()
        for source in self.sources:
            _hash_fields(digest, (source.path, source.read()))
        for edit in self.edits:
            conditions = (edit.within or "", str(edit.optional), edit.when or "", edit.unless or "")
            fields = (edit.path, edit.anchor, edit.lines, edit.where, *conditions)
            _hash_fields(digest, fields)
        return digest.hexdigest()


def _hash_fields(digest: "hashlib._Hash", fields: Iterable[str | bytes]) -> None:
    for field in fields:
        data = field.encode() if isinstance(field, str) else field
        digest.update(len(data).to_bytes(8, "little") + data)


def content_key(build_options: Sequence[str] = ()) -> str:
    """First 12 hexadecimal digits of a SHA-256 over the patch and the build options: names a folder of the cache."""
    digest = hashlib.sha256()
    _hash_fields(digest, (Patch.ours().key(), *build_options))
    return digest.hexdigest()[:12]


def check(tree: Path, patch: Patch | None = None) -> State:
    """How far `tree` is patched; raises PatchError if the patch does not fit it. Changes nothing."""
    patch = patch or Patch.ours()
    changes = _plan_apply(tree, patch)
    manifest = Manifest.read(tree)
    if not changes:
        return State.PATCHED
    reverted = _plan_revert(tree, patch, manifest)
    return State.OTHER if reverted or manifest else State.ORIGINAL


def apply(tree: Path, patch: Patch | None = None) -> list[Change]:
    """Patch `tree`, or bring an older patch up to date; returns what was changed.

    Raises PatchError, and changes nothing, if any anchor does not match exactly once.
    """
    patch = patch or Patch.ours()
    changes = _plan_apply(tree, patch)
    _write(tree, changes)
    manifest = Manifest(
        key=patch.key()[:12],
        edited=sorted({edit.path for edit in patch.edits if (tree / edit.path).is_file()}),
        copied={source.path: hashlib.sha256(source.read()).hexdigest() for source in patch.sources},
    )
    if manifest != Manifest.read(tree):
        manifest.write(tree)
    return changes


def revert(tree: Path, patch: Patch | None = None) -> list[Change]:
    """Take any version of the patch out of `tree`: every byte is as before. Returns what was changed."""
    patch = patch or Patch.ours()
    manifest = Manifest.read(tree)
    changes = _plan_revert(tree, patch, manifest)
    _write(tree, changes)
    (tree / MANIFEST).unlink(missing_ok=True)
    return changes


def original_changes(tree: Path, patch: Patch | None = None) -> list[Change]:
    """The changes that turn the original of `tree` into the patched tree, whether it is patched now or not."""
    patch = patch or Patch.ours()
    manifest = Manifest.read(tree)
    planned = {change.path: change.after for change in _plan_apply(tree, patch)}
    original = {change.path: change.after for change in _plan_revert(tree, patch, manifest)}
    changes = []
    for path in sorted({*planned, *original}):
        now = (tree / path).read_bytes() if (tree / path).is_file() else None
        before, after = original.get(path, now), planned.get(path, now)
        if before != after:
            changes.append(Change(path, before, after))
    return changes


def _plan_apply(tree: Path, patch: Patch) -> list[Change]:
    _require_tree(tree)
    manifest = Manifest.read(tree)
    changes: list[Change] = []
    problems: list[str] = []
    by_path: dict[str, list[Edit]] = {edit.path: [] for edit in patch.edits}
    for edit in patch.edits:
        if edit.applies_to(tree):
            by_path[edit.path].append(edit)
    copied = {source.path for source in patch.sources}
    for path in sorted({*by_path, *(manifest.edited if manifest else ())}):
        file_edits = by_path.get(path, [])
        if not (tree / path).is_file():
            problems += [f"{path}: the file does not exist" for edit in file_edits[:1] if not edit.optional]
            continue
        before = (tree / path).read_bytes()
        try:
            changes.append(Change(path, before, _edited(path, before, file_edits)))
        except PatchError as error:
            problems += str(error).split("\n")
    if problems:
        count = "an edit does" if len(problems) == 1 else f"{len(problems)} edits do"
        raise PatchError("\n".join([*problems, f"{count} not fit this llama.cpp; nothing was changed"]))
    for source in patch.sources:
        changes.append(Change(source.path, _ours_or_none(tree, source.path, source.read(), manifest), source.read()))
    for path in sorted(set(manifest.copied if manifest else ()) - copied):
        changes.append(Change(path, _ours_or_none(tree, path, None, manifest), None))
    return [change for change in changes if change.before != change.after]


def _edited(path: str, before: bytes, file_edits: list[Edit]) -> bytes:
    """The file with these edits and no other block of ours. Raises PatchError, a line for each that does not fit."""
    original = blocks.strip(path, TextFile.parse(before))
    placements, problems = [], []
    for edit in file_edits:
        try:
            placements.append(place(edit, original))
        except PatchError as error:
            problems.append(str(error))
    if problems:
        raise PatchError("\n".join(problems))
    return blocks.insert(path, original, placements).serialize()


def _plan_revert(tree: Path, patch: Patch, manifest: Manifest | None) -> list[Change]:
    _require_tree(tree)
    changes: list[Change] = []
    for path in sorted({*(edit.path for edit in patch.edits), *(manifest.edited if manifest else ())}):
        if (tree / path).is_file():
            before = (tree / path).read_bytes()
            after = blocks.strip(path, TextFile.parse(before)).serialize()
            changes.append(Change(path, before, after))
    contents = {source.path: source.read() for source in patch.sources}
    for path in sorted({*contents, *(manifest.copied if manifest else ())}):
        changes.append(Change(path, _ours_or_none(tree, path, contents.get(path), manifest), None))
    return [change for change in changes if change.before != change.after]


def _ours_or_none(tree: Path, path: str, ours: bytes | None, manifest: Manifest | None) -> bytes | None:
    """Content of a copied file, None if it is not there. Raises PatchError if somebody else wrote or changed it."""
    file = tree / path
    if not file.exists():
        return None
    data = file.read_bytes() if file.is_file() else None
    recorded = manifest.copied.get(path) if manifest else None
    if data is not None and (data == ours or hashlib.sha256(data).hexdigest() == recorded):
        return data
    if recorded is None:
        raise PatchError(f"{path}: is in the way and not a file of this patch; move it elsewhere and run again")
    raise PatchError(f"{path}: was changed in the tree; bring the change to ggml_patch/, delete the file, run again")


def _require_tree(tree: Path) -> None:
    for landmark in _LANDMARKS:
        if not (tree / landmark).is_file():
            raise PatchError(f"{tree} is no llama.cpp source tree: it has no {landmark}")


def _missing_folders(tree: Path, changes: list[Change]) -> set[str]:
    """Folders that writing `changes` will make, relative to the tree."""
    parents = {parent for change in changes if change.after is not None for parent in Path(change.path).parents}
    return {parent.as_posix() for parent in parents if not (tree / parent).is_dir()}


def _write(tree: Path, changes: list[Change]) -> None:
    """Write all files beside their targets first, then rename: a full disk is noticed before anything changes."""
    ready: list[tuple[Path, Path]] = []
    made = [tree / folder for folder in sorted(_missing_folders(tree, changes))]
    try:
        for folder in made:
            folder.mkdir()
        for change in changes:
            if change.after is not None:
                ready.append((_write_beside(tree / change.path, change.after), tree / change.path))
        for temporary, target in ready:
            temporary.replace(target)
        for change in changes:
            if change.after is None:
                (tree / change.path).unlink()
                _remove_empty_parents(tree, change.path)
    except OSError as error:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        raise PatchError(f"{tree}: cannot write {error.filename or ''}: {error.strerror}") from error


def _remove_empty_parents(tree: Path, path: str) -> None:
    """Remove the folders of a removed file that hold nothing now: apply made them, source trees have no empty ones."""
    for parent in Path(path).parents[:-1]:
        if any((tree / parent).iterdir()):
            return
        (tree / parent).rmdir()


def _write_beside(target: Path, data: bytes) -> Path:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(target.stat().st_mode & 0o7777 if target.exists() else 0o644)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    return Path(temporary)
