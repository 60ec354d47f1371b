"""The table of types, and that the C header mirrors it."""

import re
from pathlib import Path

import pytest

from eoq_formats import WEIGHT_TYPES, UnknownTypeError, weight_type, weight_type_for_row
from eoq_formats.codebooks import codebook
from eoq_formats.headers import glsl_header
from eoq_formats.headers.c_header import main, render
from eoq_formats.trellis import trellis_code
from eoq_formats.types import ACTIVATION_TYPES, TRELLIS_BITS

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
    "EOQ2T": (180, 66, 2.0625),
    "EOQ3T": (181, 98, 3.0625),
    "EOQ4T": (182, 130, 4.0625),
    "EOQ5T": (183, 162, 5.0625),
    "EOQ2T_128": (184, 34, 2.125),
    "EOQ3T_128": (185, 50, 3.125),
    "EOQ4T_128": (186, 66, 4.125),
    "EOQ5T_128": (187, 82, 5.125),
    "EOQ2T_64": (188, 18, 2.25),
    "EOQ3T_64": (189, 26, 3.25),
    "EOQ4T_64": (190, 34, 4.25),
    "EOQ5T_64": (191, 42, 5.25),
}


def test_ids_and_sizes_are_the_specified_ones() -> None:
    assert {t.name: (t.id, t.block_bytes, t.bits_per_weight) for t in WEIGHT_TYPES} == SPECIFIED
    assert {t.name: (t.id, t.block_bytes) for t in ACTIVATION_TYPES} == {
        "Q8_EOQ": (168, 136),
        "Q8_EOQ_64": (178, 72),
        "Q8_EOQ_256": (169, 264),
    }


@pytest.mark.parametrize("key", ["eoq4_64", "EOQ4_64", "Eoq4_64", 174])
def test_a_type_is_found_by_name_in_any_case_and_by_id(key: str | int) -> None:
    assert weight_type(key).name == "EOQ4_64"


@pytest.mark.parametrize("key", ["eoq7", "q4_k", "", 12, 168])
def test_an_unknown_type_is_refused_with_the_known_names(key: str | int) -> None:
    with pytest.raises(UnknownTypeError, match="eoq2, eoq3"):
        weight_type(key)


@pytest.mark.parametrize(
    ("length", "scalar", "trellis"),
    [
        (1024, "EOQ3", "EOQ3T"),
        (896, "EOQ3", "EOQ3T_128"),
        (576, "EOQ3_64", "EOQ3T_64"),
        (64, "EOQ3_64", "EOQ3T_64"),
        (96, None, None),
        (0, "EOQ3", "EOQ3T"),
    ],
)
def test_the_widest_block_that_divides_the_row_is_chosen(length: int, scalar: str | None, trellis: str | None) -> None:
    for family, name in (("EOQ3", scalar), ("eoq3t", trellis)):
        found = weight_type_for_row(family, length)
        assert (found.name if found else None) == name


def test_a_row_that_no_block_divides_has_no_size() -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        weight_type("eoq4").row_bytes(576)


def test_the_c_table_of_types_is_this_table() -> None:
    text = (PATCH / "base" / "ggml-eoq.h").read_text()
    rows = re.findall(r"X\((EOQ\w+),\s*(\w+),\s*(EOQ_TRELLIS \+ )?(\d),\s*(\d+),\s*(\w+),\s*(\w+)\)", text)
    assert [(a, b, bool(c), int(d), int(e), f, g) for a, b, c, d, e, f, g in rows] == [
        (t.name, t.name.lower(), t.is_trellis, t.bits, t.width, t.activation.name, t.activation.name.lower())
        for t in WEIGHT_TYPES
    ]


def test_the_generated_header_is_up_to_date(tmp_path: Path) -> None:
    assert (PATCH / "eoq-format.h").read_text() == render()
    assert (PATCH / "vulkan/shaders/eoq-format.glsl").read_text() == glsl_header.render()
    assert main([str(tmp_path / "out.h")]) == 0
    assert (tmp_path / "out.h").read_text() == render()
    assert main([]) == 2


def test_the_specification_lists_the_tables() -> None:
    text = (PATCH.parent / "docs" / "format.md").read_text()
    for bits in (2, 3, 4, 5, 6):
        book = codebook(bits)
        assert f"| {bits} | {', '.join(map(str, book.levels[2 ** (bits - 1) :]))} | {book.factor} |" in text
    for bits in TRELLIS_BITS:
        code = trellis_code(bits)
        tables = f"T: {', '.join(map(str, code.first))}"
        if code.code_bits == 4:
            tables += f"; U: {', '.join(map(str, code.second))}; masks: {', '.join(map(str, code.masks))}"
        assert f"| {bits} | {tables} | {code.factor} |" in text
