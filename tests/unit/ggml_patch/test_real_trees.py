"""Every edit fits the pinned llama.cpp and the older one."""

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from eoq_formats.types import ACTIVATION_TYPES, WEIGHT_TYPES
from ggml_patch.apply import Patch, State, apply, check, original_changes, revert
from ggml_patch.edits.weight_types import TYPE_COUNT, each
from ggml_patch.unified import unified_patch
from ggml_patch.versions import OLDER, PINNED, LlamaCppVersion
from llama_programs.fetch import cache_folder, download_sdist
from llama_programs.untar import extract
from tests.unit.ggml_patch.conftest import snapshot

NO_KERNELS_OF_THEIR_OWN = {"ggml-blas", "ggml-cpu"}
"""Backends that EOQ tensors may go to."""


def needed_files(version: LlamaCppVersion, target: Path) -> Path:
    """The files of a version's tree that edits touch, and the main sources of every backend."""
    wanted = {f"{version.tree}/{edit.path}" for edit in Patch.ours().edits}
    backend = re.compile(rf"{re.escape(version.tree)}/ggml/src/ggml-\w+/[\w-]+\.(cpp|cu|m)")
    with tarfile.open(download_sdist(version, cache_folder())) as archive:
        members = [m for m in archive if m.name in wanted or backend.fullmatch(m.name)]
        extract(archive, target, members)
    return target / version.tree


@pytest.fixture(scope="module", params=[PINNED, OLDER], ids=lambda version: version.version)
def real_tree(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree in its original state; tests leave it so."""
    return needed_files(request.param, tmp_path_factory.mktemp("llama.cpp"))


@pytest.mark.download
def test_apply_and_revert(real_tree: Path) -> None:
    before = snapshot(real_tree)
    assert check(real_tree) is State.ORIGINAL
    apply(real_tree)
    assert check(real_tree) is State.PATCHED
    revert(real_tree)
    assert snapshot(real_tree) == before


@pytest.mark.download
def test_printed_patch_applies_with_git(real_tree: Path) -> None:
    text = unified_patch(original_changes(real_tree))
    subprocess.run(["git", "apply", "--check", "--whitespace=nowarn"], cwd=real_tree, input=text, check=True)


@pytest.mark.download
@pytest.mark.parametrize("version", [PINNED], ids=lambda version: version.version)
def test_no_edit_of_the_pinned_tree_is_skipped(version: LlamaCppVersion, tmp_path: Path) -> None:
    tree = needed_files(version, tmp_path)
    assert [edit.path for edit in Patch.ours().edits if not (tree / edit.path).is_file()] == []


@pytest.mark.download
def test_every_backend_without_eoq_kernels_denies(real_tree: Path) -> None:
    """A backend that no edit knows would claim the types, and abort."""
    apply(real_tree)
    denying = set()
    for folder in (real_tree / "ggml/src").glob("ggml-*/"):
        text = "".join(file.read_text(errors="replace") for file in folder.glob("*.*"))
        if re.search(r"/\* \.supports_op ", text) and folder.name not in NO_KERNELS_OF_THEIR_OWN:
            assert "ggml_op_uses_eoq(" in text, folder
            denying.add(folder.name)
    revert(real_tree)
    assert denying >= {"ggml-cuda", "ggml-metal", "ggml-vulkan", "ggml-sycl", "ggml-rpc"}


def test_edits_have_the_types_of_the_table() -> None:
    rows = {tuple(line.split()) for line in each("{T} {t} {id} {bits} {width} {bytes} {bpw}").splitlines()}
    assert rows == {
        (t.name, t.name.lower(), str(t.id), str(t.bits), str(t.width), str(t.block_bytes), str(t.bits_per_weight))
        for t in WEIGHT_TYPES
    }
    written = "\n".join(edit.lines for edit in Patch.ours().edits)
    ids = {t.name: t.id for t in WEIGHT_TYPES} | {t.name: t.id for t in ACTIVATION_TYPES}
    for name, number in ids.items():
        assert re.search(rf"\bGGML_TYPE_{name} *= {number},", written)
    assert max(ids.values()) < TYPE_COUNT
