"""What the configuration of a folder says: what is broken is refused by name, before any weight is read."""

import copy
from typing import Any

import pytest

from converter.ingest.stored_quantization import OWN
from eoq_formats.types import WEIGHT_TYPES, weight_type
from eoq_transformers.description import (
    METHOD,
    FormatError,
    Recorded,
    Stored,
    check_codes,
    describe,
    read_description,
    read_float_names,
    read_recorded,
)

TYPES = {f"layer{t.id}": t for t in WEIGHT_TYPES}
RECORDED: dict[str, Recorded] = {"eoq.method": "rtn", "eoq.options": ("--rtn", "ä"), "general.file_type": 164}
GOOD = describe(TYPES, ("layer162",), RECORDED)


def changed(*path: str, to: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    place = config
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return config


def test_it_reads_what_it_writes() -> None:
    assert read_description(GOOD) == TYPES and METHOD == OWN
    assert read_recorded(GOOD) == RECORDED and read_recorded(describe(TYPES)) == {}
    names = read_float_names(GOOD)
    assert (names["layer162"], names["layer163"]) == ("layer162", "layer163.weight")
    levels = GOOD["types"]
    assert levels["eoq2"]["centroids"] == [-80.0, -24.0, 24.0, 80.0]
    assert len(levels["eoq4t"]["tables"]) == 32 and levels["eoq4t"]["matrix"] == [2, 2, 15, 14]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (changed("version", to=2), "version 2 of the EOQ format .* reads version 1"),
        (changed("version", to=True), "version True"),
        (changed("signs", to=[]), "other signs"),
        (changed("types", to=[]), "no table of types"),
        (changed("types", "eoq9", to={}), "unknown EOQ type 'eoq9'"),
        (changed("types", "eoq2", to=3), "says nothing of its type eoq2"),
        (changed("types", "eoq2", "bits", to=7), "eoq2 7 bits, and there are types of 2 to 6"),
        (changed("types", "eoq2", "bits", to=3), "eoq2 3 bits and the type eoq2"),
        (changed("types", "eoq2", "block_size", to=32), "levels or blocks .* for eoq2 are not those"),
        (changed("types", "eoq2t", "tables", to=[1.0]), "levels or blocks .* for eoq2t are not those"),
        (changed("tensors", to={}), "lists no tensors"),
        (changed("tensors", "layer162", to={"type": "eoq7"}), "gives layer162 the type 'eoq7'"),
        (changed("tensors", "layer162", "bits", to=-1), "layer162 -1 bits"),
        (changed("tensors", "layer162", "bits", to="4"), "layer162 '4' bits"),
        (changed("tensors", "layer162", "suffix", to=".w"), "gives layer162 the suffix '.w'"),
        (changed("gguf", to=[]), "no table of gguf"),
        (changed("gguf", "eoq.method", to=1.5), "has 1.5 as 'eoq.method' of its gguf"),
        (changed("gguf", "eoq.method", to="\ud800"), "as 'eoq.method' of its gguf"),
        (changed("gguf", "eoq.options", to=["a", 1]), "as 'eoq.options' of its gguf"),
        (changed("gguf", "general.file_type", to=2**32), "as 'general.file_type' of its gguf"),
    ],
)
def test_broken_descriptions(config: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        (read_description(config), read_float_names(config), read_recorded(config))


CODES = {"a.packed": Stored("U8", (3, 128)), "a.norms": Stored("F16", (3, 2)), "a.awq_scales": Stored("F16", (256,))}


@pytest.mark.parametrize(
    ("name", "stored", "message"),
    [
        ("a.norms", None, "the folder has no a.norms"),
        ("a.packed", None, "the folder has no a.packed"),
        ("a.norms", Stored("BF16", (3, 2)), "a.norms is BF16 .* should be F16"),
        ("a.norms", Stored("F16", (2,)), r"a.norms is F16 of shape \[2\]"),
        ("a.norms", Stored("F16", (3, 4)), r"a.packed has the shape \[3, 128\], and norms of shape \[3, 4\] go with"),
        ("a.packed", Stored("U8", (4, 128)), "a.packed has the shape"),
        ("a.packed", Stored("U8", (0, 128)), "a.packed is U8 of shape"),
        ("a.awq_scales", Stored("F16", (3,)), "a.awq_scales is F16"),
    ],
)
def test_broken_codes(name: str, stored: Stored | None, message: str) -> None:
    types = {"a": weight_type("eoq4")}
    assert check_codes(types, CODES)["a"].shape == (3, 256)
    broken = {key: value for key, value in (CODES | {name: stored}).items() if value is not None}
    with pytest.raises(FormatError, match=message):
        check_codes(types, broken)
