"""Changes as an ordinary unified patch, for `git apply` and `patch -p1`."""

import difflib
from collections.abc import Iterator

from ggml_patch.apply import Change


def unified_patch(changes: list[Change]) -> bytes:
    """The patch that makes `changes`, new and deleted files included."""
    return b"".join(line for change in changes for line in _file_patch(change))


def _file_patch(change: Change) -> Iterator[bytes]:
    old, new = f"a/{change.path}".encode(), f"b/{change.path}".encode()
    yield b"diff --git %s %s\n" % (old, new)
    if change.before is None:
        yield b"new file mode 100644\n"
    if change.after is None:
        yield b"deleted file mode 100644\n"
    before, after = _lines(change.before), _lines(change.after)
    from_file = b"/dev/null" if change.before is None else old
    to_file = b"/dev/null" if change.after is None else new
    for line in difflib.diff_bytes(difflib.unified_diff, before, after, from_file, to_file):
        yield line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def _lines(data: bytes | None) -> list[bytes]:
    """Lines with their ends; only "\\n" ends a line, as patch tools see it."""
    pieces = (data or b"").split(b"\n")
    return [piece + b"\n" for piece in pieces[:-1]] + [piece for piece in pieces[-1:] if piece]
