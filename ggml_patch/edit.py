"""One edit as data, and how it finds its place in a file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ggml_patch.errors import PatchError
from ggml_patch.textfile import TextFile

Where = Literal["before", "after", "replace"]


@dataclass(frozen=True)
class Edit:
    """Lines of ours that go before, after or in place of the lines that `anchor` matches.

    `anchor` is a regular expression over the lines of the file (`^` and `$` match at each line) and must match exactly
    once: in the file, or with `within` in the block that begins at the one line matching `within` and ends at the next
    line starting with `}` (or at the end of the file).
    """

    path: str
    anchor: str
    lines: str
    where: Where = "after"
    within: str | None = None
    optional: bool = False
    """The file may be missing: a backend that only some versions of llama.cpp have."""
    when: str | None = None
    """A file of the tree without which this edit is left out: code that only some versions have."""
    unless: str | None = None
    """A file of the tree with which this edit is left out."""

    def applies_to(self, tree: Path) -> bool:
        """Whether the edit is meant for this tree."""
        if self.when is not None and not (tree / self.when).is_file():
            return False
        return self.unless is None or not (tree / self.unless).is_file()

    @property
    def our_lines(self) -> list[str]:
        return self.lines.strip("\n").split("\n")


@dataclass(frozen=True)
class Placement:
    """Where an edit goes: `lines[first:last]` of the file are replaced (nothing if first == last)."""

    first: int
    last: int
    edit: Edit


def place(edit: Edit, file: TextFile) -> Placement:
    """Find the place of `edit`; raises PatchError if its anchor does not match exactly once."""
    begin, end = 0, len(file.lines)
    if edit.within is not None:
        begin = _only_match(edit, edit.within, file, 0, end)[0]
        end = next((i for i in range(begin + 1, end) if file.lines[i].startswith("}")), end)
    first, last = _only_match(edit, edit.anchor, file, begin, end)
    if edit.where == "before":
        return Placement(first, first, edit)
    if edit.where == "after":
        return Placement(last, last, edit)
    if any(line.endswith("\\") for line in file.lines[first:last]):
        raise PatchError(f"{edit.path}: anchor {edit.anchor!r} replaces a continued line, which no comment can hold")
    return Placement(first, last, edit)


def _only_match(edit: Edit, pattern: str, file: TextFile, begin: int, end: int) -> tuple[int, int]:
    """First line and line after the last of the one match of `pattern` in `lines[begin:end]`."""
    text = "\n".join(file.lines[begin:end])
    matches = list(re.finditer(pattern, text, re.MULTILINE))
    if len(matches) != 1:
        region = "" if pattern == edit.within or edit.within is None else f" within {edit.within!r}"
        problem = "does not match" if not matches else f"matches {len(matches)} times"
        raise PatchError(f"{edit.path}: anchor {pattern!r} {problem}{region}")
    first = begin + text.count("\n", 0, matches[0].start())
    return first, first + 1 + matches[0].group().rstrip("\n").count("\n")
