"""The printed patch, given to the tools that users have."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ggml_patch.apply import Patch, State, apply, check, original_changes, revert
from ggml_patch.edit import Edit
from ggml_patch.manifest import MANIFEST
from ggml_patch.unified import unified_patch
from tests.unit.ggml_patch.conftest import EDITS, snapshot

COMMANDS = {
    "git": ["git", "apply", "--whitespace=nowarn"],
    "patch": ["patch", "-p1", "--binary", "--silent"],
}


@pytest.fixture(params=COMMANDS)
def patch_command(request: pytest.FixtureRequest) -> list[str]:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return COMMANDS[request.param]


def test_patch_tools_do_what_apply_does(tree: Path, make_patch: Callable[..., Patch], patch_command: list[str]) -> None:
    original = snapshot(tree)
    patch = make_patch()
    text = unified_patch(original_changes(tree, patch))
    assert snapshot(tree) == original
    apply(tree, patch)
    expected = {path: data for path, data in snapshot(tree).items() if path != MANIFEST}
    assert unified_patch(original_changes(tree, patch)) == text
    revert(tree, patch)

    subprocess.run(patch_command, cwd=tree, input=text, check=True)
    assert snapshot(tree) == expected
    assert check(tree, patch) is State.PATCHED
    revert(tree, patch)
    assert snapshot(tree) == original


def test_diff_of_a_tree_with_an_older_patch_starts_from_the_original(
    tree: Path, make_patch: Callable[..., Patch]
) -> None:
    patch = make_patch()
    fresh = unified_patch(original_changes(tree, patch))
    apply(tree, make_patch((*EDITS[:2], Edit("include/llama.h", "landmark", "int old;")), path="src/old.c"))
    assert unified_patch(original_changes(tree, patch)) == fresh
