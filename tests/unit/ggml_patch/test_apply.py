import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ggml_patch.apply import Patch, State, apply, check, content_key, revert
from ggml_patch.edit import Edit
from ggml_patch.errors import PatchError
from ggml_patch.manifest import MANIFEST
from tests.unit.ggml_patch.conftest import EDITS, snapshot

MakePatch = Callable[..., Patch]


def test_apply_makes_the_edits_and_copies_the_sources(tree: Path, make_patch: MakePatch) -> None:
    changes = apply(tree, make_patch())
    assert {change.path for change in changes} == {"src/types.c", "src/list.txt", "src/ours/ours.c"}
    text = (tree / "src/types.c").read_text()
    assert "    OURS = 7,\n    COUNT = 8,\n" in text
    assert text.count("case OURS") == 1 and text.index("case OURS") > text.index("int name(")
    assert (tree / "src/list.txt").read_bytes().startswith(b"first\r\nlast\r\n# EOQ-BEGIN\r\nours\r\n")
    assert (tree / "src/ours/ours.c").read_text() == "int ours;\n"


def test_second_apply_changes_nothing(tree: Path, make_patch: MakePatch) -> None:
    patch = make_patch()
    apply(tree, patch)
    before = {path: path.stat().st_mtime_ns for path in tree.rglob("*")}
    assert apply(tree, patch) == []
    assert {path: path.stat().st_mtime_ns for path in tree.rglob("*")} == before


def test_revert_restores_every_byte_and_removes_what_was_made(tree: Path, make_patch: MakePatch) -> None:
    before = snapshot(tree)
    patch = make_patch()
    apply(tree, patch)
    assert snapshot(tree) != before
    revert(tree, patch)
    assert snapshot(tree) == before
    assert revert(tree, patch) == []


def test_check_tells_the_state_and_changes_nothing(tree: Path, make_patch: MakePatch) -> None:
    patch = make_patch()
    assert check(tree, patch) is State.ORIGINAL
    apply(tree, patch)
    before = snapshot(tree)
    assert check(tree, patch) is State.PATCHED
    assert check(tree, make_patch(content="int newer;\n")) is State.OTHER
    assert snapshot(tree) == before


def test_permissions_stay(tree: Path, make_patch: MakePatch) -> None:
    (tree / "src/types.c").chmod(0o755)
    apply(tree, make_patch())
    assert (tree / "src/types.c").stat().st_mode & 0o777 == 0o755


def test_older_patch_is_brought_up_to_date_and_reverted(tree: Path, make_patch: MakePatch) -> None:
    before = snapshot(tree)
    old_only = Edit("include/llama.h", "landmark", "int old;")
    apply(tree, make_patch((*EDITS, old_only), path="src/old/old.c"))
    newer = (*EDITS[1:], Edit("src/types.c", r"^ +A = 0", "    NEW = 5,"))
    patch = make_patch(newer)
    apply(tree, patch)
    assert (tree / "include/llama.h").read_bytes() == before["include/llama.h"]
    assert not (tree / "src/old/old.c").exists()
    assert "NEW = 5" in (tree / "src/types.c").read_text() and "OURS = 7" not in (tree / "src/types.c").read_text()
    revert(tree, patch)
    assert snapshot(tree) == before


def test_any_version_can_revert_another(tree: Path, make_patch: MakePatch) -> None:
    before = snapshot(tree)
    apply(tree, make_patch((*EDITS, Edit("include/llama.h", "landmark", "int old;")), path="src/old/old.c"))
    revert(tree, make_patch())
    assert snapshot(tree) == before


def test_partly_applied_tree_is_completed(tree: Path, make_patch: MakePatch) -> None:
    patch = make_patch()
    apply(tree, patch)
    complete = snapshot(tree)
    revert(tree, patch)
    apply(tree, make_patch(EDITS[:1]))
    (tree / MANIFEST).unlink()
    assert check(tree, patch) is State.OTHER
    apply(tree, patch)
    assert snapshot(tree) == complete


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit("src/types.c", "nowhere", "x"), r"src/types\.c: anchor 'nowhere' does not match"),
        (Edit("src/types.c", "case A", "x"), r"src/types\.c: anchor 'case A' matches 2 times"),
        (Edit("src/gone.c", "a", "x"), r"src/gone\.c: the file does not exist"),
    ],
)
def test_nothing_changes_if_one_edit_does_not_fit(tree: Path, make_patch: MakePatch, edit: Edit, message: str) -> None:
    before = snapshot(tree)
    for action in (apply, check):
        with pytest.raises(PatchError, match=message) as error:
            action(tree, make_patch((*EDITS, edit)))
        assert "nothing was changed" in str(error.value)
    assert snapshot(tree) == before


def test_all_anchors_that_fail_are_named(tree: Path, make_patch: MakePatch) -> None:
    wrong = tuple(Edit("src/types.c", f"nowhere{i}", "x") for i in range(3))
    with pytest.raises(PatchError, match="3 edits do not fit") as error:
        check(tree, make_patch((*EDITS, *wrong)))
    assert all(f"nowhere{i}" in str(error.value) for i in range(3))


def test_foreign_file_in_the_way_is_never_overwritten(tree: Path, make_patch: MakePatch) -> None:
    (tree / "src/ours").mkdir()
    (tree / "src/ours/ours.c").write_text("precious\n")
    before = snapshot(tree)
    for action in (apply, revert, check):
        with pytest.raises(PatchError, match=r"src/ours/ours\.c: is in the way"):
            action(tree, make_patch())
    assert snapshot(tree) == before


def test_copied_file_changed_in_the_tree_is_never_lost(tree: Path, make_patch: MakePatch) -> None:
    apply(tree, make_patch())
    (tree / "src/ours/ours.c").write_text("int improved;\n")
    for action in (apply, revert):
        with pytest.raises(PatchError, match=r"src/ours/ours\.c: was changed in the tree"):
            action(tree, make_patch(content="int newer;\n"))


def test_folder_that_holds_more_than_ours_stays(tree: Path, make_patch: MakePatch) -> None:
    patch = make_patch()
    apply(tree, patch)
    (tree / "src/ours/notes.txt").write_text("mine\n")
    revert(tree, patch)
    assert (tree / "src/ours/notes.txt").read_text() == "mine\n"


def test_full_disk_leaves_no_trace(tree: Path, make_patch: MakePatch, monkeypatch: pytest.MonkeyPatch) -> None:
    before = snapshot(tree)

    real_chmod = Path.chmod

    def fail_at_one(path: Path, mode: int) -> None:
        if "types.c" in path.name:
            raise OSError(28, "No space left on device", str(path))
        real_chmod(path, mode)

    monkeypatch.setattr(Path, "chmod", fail_at_one)
    with pytest.raises(PatchError, match="No space left on device"):
        apply(tree, make_patch())
    assert snapshot(tree) == before


def test_what_is_no_llama_cpp_tree_is_refused(tmp_path: Path, make_patch: MakePatch) -> None:
    for action in (apply, check, revert):
        with pytest.raises(PatchError, match=r"is no llama\.cpp source tree"):
            action(tmp_path / "missing", make_patch())


@pytest.mark.parametrize("note", ["{", "{}", '{"key": "", "edited": ["../x"], "copied": {}}'])
def test_damaged_note_is_refused(tree: Path, make_patch: MakePatch, note: str) -> None:
    (tree / MANIFEST).write_text(note)
    with pytest.raises(PatchError, match="is damaged"):
        revert(tree, make_patch())


def test_key_follows_everything_that_is_applied(make_patch: MakePatch) -> None:
    keys = {make_patch().key()}
    assert keys == {make_patch().key()}
    for changed in (
        make_patch(content="int other;\n"),
        make_patch(path="src/elsewhere.c"),
        make_patch(EDITS[1:]),
        *(
            make_patch((changed, *EDITS[1:]))
            for changed in (
                dataclasses.replace(EDITS[0], lines="x"),
                dataclasses.replace(EDITS[0], anchor="x"),
                dataclasses.replace(EDITS[0], where="after"),
                dataclasses.replace(EDITS[0], within="x"),
                dataclasses.replace(EDITS[0], path="x"),
            )
        ),
    ):
        keys.add(changed.key())
    assert len(keys) == 9


def test_content_key_names_patch_and_build_options() -> None:
    key = content_key()
    assert len(key) == 12 and int(key, 16) >= 0
    assert content_key() == key
    assert len({key, content_key(["-DA=1"]), content_key(["-DA=2"]), content_key(["-DA", "=1"])}) == 4


@pytest.mark.parametrize("has_file", [True, False])
def test_an_edit_may_depend_on_a_file_of_the_tree(has_file: bool, tree: Path, make_patch: Callable[..., Patch]) -> None:
    edits = (
        Edit("src/list.txt", "^last$", "with the file", when="src/new.c"),
        Edit("src/list.txt", "^last$", "without it", unless="src/new.c"),
        Edit("src/missing.c", "^nowhere$", "nothing", when="src/missing.c"),
    )
    if has_file:
        (tree / "src/new.c").write_bytes(b"int x;\n")
    apply(tree, make_patch(edits))
    assert (b"with the file" in (tree / "src/list.txt").read_bytes()) == has_file
    assert (b"without it" in (tree / "src/list.txt").read_bytes()) != has_file
    assert apply(tree, make_patch(edits)) == []
