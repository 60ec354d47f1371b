from typing import Literal

import pytest

from ggml_patch.edit import Edit, Placement, place
from ggml_patch.errors import PatchError
from ggml_patch.textfile import TextFile

FILE = TextFile.parse(b"int f(\n    int a) {\n  case 1:\n}\nint g(void) {\n  case 1:\n  case 2: \\\n}\n  case 3:\n")


def span(edit: Edit) -> tuple[int, int]:
    placement: Placement = place(edit, FILE)
    return placement.first, placement.last


@pytest.mark.parametrize(("where", "expected"), [("before", (6, 6)), ("after", (7, 7))])
def test_place_beside_the_matched_line(where: Literal["before", "after"], expected: tuple[int, int]) -> None:
    assert span(Edit("f.c", r"case 2:", "x", where=where)) == expected


def test_replace_takes_whole_lines_even_of_a_match_over_several() -> None:
    assert span(Edit("f.c", r"int f\(\n +int a", "x", where="replace")) == (0, 2)


def test_within_ends_at_the_closing_brace() -> None:
    assert span(Edit("f.c", r"case 1:", "x", within=r"^int f\($")) == (3, 3)
    assert span(Edit("f.c", r"case 1:", "x", within=r"^int g\(")) == (6, 6)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (Edit("f.c", r"case 9:", "x"), r"f\.c: anchor 'case 9:' does not match$"),
        (Edit("f.c", r"case 1:", "x"), r"f\.c: anchor 'case 1:' matches 2 times$"),
        (Edit("f.c", r"case 3:", "x", within=r"^int g\("), r"f\.c: anchor 'case 3:' does not match within"),
        (Edit("f.c", r"case 1:", "x", within=r"^int h\("), r"anchor '\^int h\\\\\(' does not match$"),
        (Edit("f.c", r"case 2:", "x", where="replace"), "continued line"),
    ],
)
def test_error_names_file_and_anchor(edit: Edit, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        place(edit, FILE)
