"""The table of types, and that the C header mirrors it."""

import re
from pathlib import Path

import pytest

from eoq_formats import WEIGHT_TYPES, UnknownTypeError, weight_type, weight_type_for_row
from eoq_formats.c_header import main, render
from eoq_formats.codebooks import codebook
from eoq_formats.types import ACTIVATION_TYPES

PATCH = Path(__file__).parents[3] / "ggml_patch"

# ids, block bytes and bits a weight as DESIGN and docs/format.md fix them
SPECIFIED = {
    "EOQ2": (162, 34, 2.125),
    "EOQ3": (163, 50, 3.125),
    "EOQ4": (164, 66, 4.125),
    "EOQ5": (165, 82, 5.125),
    "EOQ6": (166, 98, 6.125),
    "EOQ2_64": (172, 18, 2.25),
    "EOQ3_64": (173, 26, 3.25),
    "EOQ4_64": (174, 34, 4.25),
    "EOQ5_64": (175, 42, 5.25),
    "EOQ6_64": (176, 50, 6.25),
}


def test_ids_and_sizes_are_the_specified_ones() -> None:
    assert {t.name: (t.id, t.block_bytes, t.bits_per_weight) for t in WEIGHT_TYPES} == SPECIFIED
    assert {t.name: (t.id, t.block_bytes) for t in ACTIVATION_TYPES} == {"Q8_EOQ": (168, 136), "Q8_EOQ_64": (178, 72)}


@pytest.mark.parametrize("key", ["eoq4_64", "EOQ4_64", "Eoq4_64", 174])
def test_a_type_is_found_by_name_in_any_case_and_by_id(key: str | int) -> None:
    assert weight_type(key).name == "EOQ4_64"


@pytest.mark.parametrize("key", ["eoq7", "q4_k", "", 12, 168])
def test_an_unknown_type_is_refused_with_the_known_names(key: str | int) -> None:
    with pytest.raises(UnknownTypeError, match="eoq2, eoq3"):
        weight_type(key)


@pytest.mark.parametrize(
    ("length", "name"), [(1024, "EOQ3"), (576, "EOQ3_64"), (64, "EOQ3_64"), (96, None), (0, "EOQ3")]
)
def test_the_widest_block_that_divides_the_row_is_chosen(length: int, name: str | None) -> None:
    found = weight_type_for_row(3, length)
    assert (found.name if found else None) == name


def test_a_row_that_no_block_divides_has_no_size() -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        weight_type("eoq4").row_bytes(576)


def test_the_c_table_of_types_is_this_table() -> None:
    text = (PATCH / "base" / "ggml-eoq.h").read_text()
    rows = re.findall(r"X\((EOQ\d(?:_64)?),\s*(\w+),\s*(\d),\s*(\d+),\s*(\w+),\s*(\w+)\)", text)
    assert [(a, b, int(c), int(d), e, f) for a, b, c, d, e, f in rows] == [
        (t.name, t.name.lower(), t.bits, t.width, t.activation.name, t.activation.name.lower()) for t in WEIGHT_TYPES
    ]


def test_the_generated_header_is_up_to_date(tmp_path: Path) -> None:
    assert (PATCH / "eoq-format.h").read_text() == render()
    assert main([str(tmp_path / "out.h")]) == 0
    assert (tmp_path / "out.h").read_text() == render()
    assert main([]) == 2


def test_the_specification_lists_the_tables() -> None:
    text = (PATCH.parent / "docs" / "format.md").read_text()
    for bits in (2, 3, 4, 5, 6):
        book = codebook(bits)
        assert f"| {bits} | {', '.join(map(str, book.levels[2 ** (bits - 1) :]))} | {book.factor} |" in text
