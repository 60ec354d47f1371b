"""A small stand-in for a llama.cpp tree, and a small patch for it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ggml_patch.apply import Patch
from ggml_patch.edit import Edit
from ggml_patch.sources import Source

TYPES_C = b"""enum type {
    A = 0,
    COUNT = 1,
};

int size(int type) {
    switch (type) {
        case A: return 1;
    }
    return 0;
}

int name(int type) {
    switch (type) {
        case A: return 2;
    }
    return 0;
}
"""

EDITS = (
    Edit("src/types.c", r"^ +COUNT = \d+,", "    OURS = 7,\n    COUNT = 8,", where="replace"),
    Edit("src/types.c", r"^ +case A:", "        case OURS: return 3;", within=r"^int name\("),
    Edit("src/list.txt", r"^last$", "ours"),
    Edit("src/gpu.c", r"^int supports\(", "// ours", where="before", optional=True),
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree whose list.txt has Windows line ends, and no line end at its end."""
    root = tmp_path / "llama.cpp"
    for path, data in {
        "ggml/include/ggml.h": b"// landmark\n",
        "include/llama.h": b"// landmark\n",
        "src/types.c": TYPES_C,
        "src/list.txt": b"first\r\nlast",
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def make_patch(tmp_path: Path) -> Callable[..., Patch]:
    """Makes a patch of EDITS, or others, and one source file with the given content."""

    def make(edits: tuple[Edit, ...] = EDITS, content: str = "int ours;\n", path: str = "src/ours/ours.c") -> Patch:
        ours = tmp_path / f"ours-{len(list(tmp_path.iterdir()))}.c"
        ours.write_text(content)
        return Patch(edits, (Source(ours, path),))

    return make


def snapshot(root: Path) -> dict[str, bytes | None]:
    """Content of every file of a tree, and every folder as None."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")}
