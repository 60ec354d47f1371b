import pytest
from hypothesis import given
from hypothesis import strategies as st

from ggml_patch import blocks
from ggml_patch.edit import Edit, Placement, place
from ggml_patch.errors import PatchError
from ggml_patch.textfile import TextFile

line_texts = st.text(st.sampled_from("ab \t\r\\/#\xe9"), max_size=5)
files = st.lists(st.tuples(line_texts, st.sampled_from(["\n", "\r\n"])), min_size=1, max_size=8)


@given(files, st.booleans(), st.sampled_from([b"", b"\xff\xfe", b"\x00"]))
def test_parse_and_serialize_keep_every_byte(lines: list[tuple[str, str]], end: bool, odd: bytes) -> None:
    data = odd + "".join(text + eol for text, eol in lines).encode()
    data = data if end else data.rstrip(b"\r\n")
    assert TextFile.parse(data).serialize() == data


@given(files, st.booleans(), st.data())
def test_strip_undoes_insert(lines: list[tuple[str, str]], end: bool, data: st.DataObject) -> None:
    text = "".join(text + eol for text, eol in lines)
    original = (text if end else text.rstrip("\r\n") + "x").encode()
    file = TextFile.parse(original)
    edges = data.draw(st.lists(st.integers(0, len(file.lines)), min_size=2, max_size=6).map(sorted))
    edit = Edit("f.c", "unused", "  ours\n\n  too")
    spans = zip(edges[::2], edges[1::2], strict=False)
    placements = [Placement(first, last, edit) for first, last in spans]
    patched = blocks.insert("f.c", file, placements).serialize()
    assert patched.count(b"EOQ-BEGIN") == len(placements)
    assert blocks.strip("f.c", TextFile.parse(patched)).serialize() == original


def test_block_keeps_what_it_replaced() -> None:
    file = TextFile.parse(b"a\n  b = 1\nc\n")
    edit = Edit("f.c", "b = 1", "  b = 2\n  ours", where="replace")
    assert blocks.insert("f.c", file, [place(edit, file)]).serialize().decode().splitlines() == [
        "a",
        "  // EOQ-BEGIN",
        "  // EOQ-WAS:  b = 1",
        "  b = 2",
        "  ours",
        "  // EOQ-END",
        "c",
    ]


def test_comment_sign_fits_the_language() -> None:
    file = TextFile.parse(b"a\n")
    for path, sign in (("CMakeLists.txt", b"# "), ("x.py", b"# "), ("x.cu", b"// "), ("x.m", b"// ")):
        edit = Edit(path, "a", "ours")
        assert blocks.insert(path, file, [place(edit, file)]).serialize().startswith(b"a\n" + sign + b"EOQ-BEGIN\n")


def test_overlapping_edits_are_refused() -> None:
    file = TextFile.parse(b"a\nb\n")
    edits = [Edit("f.c", "a\nb", "x", where="replace"), Edit("f.c", "b", "y", where="replace")]
    with pytest.raises(PatchError, match="overlaps"):
        blocks.insert("f.c", file, [place(edit, file) for edit in edits])


@pytest.mark.parametrize(
    "text",
    ["// EOQ-BEGIN\nours\n", "// EOQ-END\n", "// EOQ-WAS:x\n", "// EOQ-BEGIN\n// EOQ-BEGIN\n// EOQ-END\n"],
)
def test_damaged_block_is_an_error_that_names_the_line(text: str) -> None:
    with pytest.raises(PatchError, match=r"f\.c:2: .*restore the file"):
        blocks.strip("f.c", TextFile.parse(b"a\n" + text.encode()))
