"""Our lines inside a file of llama.cpp: marked blocks that can be put in and taken out without a trace.

    // EOQ-BEGIN
    // EOQ-WAS:        GGML_TYPE_COUNT   = 43,       (only where lines are replaced: the original, kept for revert)
        GGML_TYPE_EOQ2    = 162,
    // EOQ-END

Because a block carries what it replaced, a file can be reverted without knowing which version of the edits it has.
"""

import re

from ggml_patch.edit import Placement
from ggml_patch.errors import PatchError
from ggml_patch.textfile import TextFile

_BEGIN = re.compile(r"^\s*(?://|#) EOQ-BEGIN$")
_WAS = re.compile(r"^\s*(?://|#) EOQ-WAS:(.*)$")
_END = re.compile(r"^\s*(?://|#) EOQ-END$")
_HASH_COMMENTS = (".py", ".txt", ".cmake")


def _comment(path: str) -> str:
    return "#" if path.endswith(_HASH_COMMENTS) else "//"


def insert(path: str, file: TextFile, placements: list[Placement]) -> TextFile:
    """The file with a marked block for each placement. Placements refer to `file` and must not overlap."""
    result = TextFile([], [])
    done = 0
    for placement in sorted(placements, key=lambda p: (p.first, p.last)):
        if placement.first < done:
            raise PatchError(f"{path}: anchor {placement.edit.anchor!r} overlaps the edit before it")
        _copy(file, done, placement.first, result)
        _append_block(path, file, placement, result)
        done = placement.last
    _copy(file, done, len(file.lines), result)
    return result


def _copy(source: TextFile, first: int, last: int, target: TextFile) -> None:
    target.lines += source.lines[first:last]
    target.ends += source.ends[first:last]


def _append_block(path: str, file: TextFile, placement: Placement, result: TextFile) -> None:
    ours = placement.edit.our_lines
    indent = ours[0][: len(ours[0]) - len(ours[0].lstrip())]
    mark = indent + _comment(path)
    replaced = file.lines[placement.first : placement.last]
    end = file.line_end(max(0, placement.first - 1) if not replaced else placement.first)
    lines = [f"{mark} EOQ-BEGIN", *(f"{mark} EOQ-WAS:{line}" for line in replaced), *ours, f"{mark} EOQ-END"]
    # a replaced line keeps its own end, in case the file mixes them
    ends = [end, *(own or end for own in file.ends[placement.first : placement.last])]
    ends += [end] * (len(lines) - len(ends))
    if len(file.lines) == placement.last and file.lines and not file.ends[-1]:
        # the file's last line has no end: ours takes that over, so that revert knows
        ends[-1] = ""
        if not replaced:
            result.ends[-1] = end
    result.lines += lines
    result.ends += ends


def strip(path: str, file: TextFile) -> TextFile:
    """The file without our blocks, as it was before. Raises PatchError if a block is damaged."""
    result = TextFile([], [])
    i = 0
    while i < len(file.lines):
        if _END.match(file.lines[i]) or _WAS.match(file.lines[i]):
            raise PatchError(f"{path}:{i + 1}: an EOQ mark without its EOQ-BEGIN; restore the file and try again")
        if not _BEGIN.match(file.lines[i]):
            _copy(file, i, i + 1, result)
            i += 1
            continue
        last = next((j for j in range(i + 1, len(file.lines)) if _END.match(file.lines[j])), None)
        if last is None or any(_BEGIN.match(line) for line in file.lines[i + 1 : last]):
            raise PatchError(f"{path}:{i + 1}: an EOQ-BEGIN without its EOQ-END; restore the file and try again")
        _restore(file, i, last, result)
        i = last + 1
    return result


def _restore(file: TextFile, begin: int, end: int, result: TextFile) -> None:
    """Append the lines that the block `begin`..`end` replaced."""
    for j in range(begin + 1, end):
        was = _WAS.match(file.lines[j])
        if was is None:
            break
        result.lines.append(was.group(1))
        result.ends.append(file.ends[j])
    if not file.ends[end] and result.ends:
        result.ends[-1] = ""
