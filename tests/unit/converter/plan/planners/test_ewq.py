"""From entropies to levels."""

import re
from math import isclose
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from converter.errors import OptionError
from converter.plan.blocks import blocks_of
from converter.plan.planners import ewq
from converter.plan.planners.ewq import Block, Matrix, decide
from converter.plan.precision_levels import LevelTable
from eoq_formats.errors import UnknownTypeError
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import random_weights, write_gguf

entropies = st.lists(st.floats(0, 10), min_size=1, max_size=40)


def test_computed_by_hand() -> None:
    # mean 3, variance (4 + 1 + 0 + 1 + 4) / 5 = 2
    found = decide([1, 2, 3, 4, 5])
    assert found.mean == 3
    assert isclose(found.deviation, 2**0.5, rel_tol=1e-15)
    assert isclose(found.threshold, 3 - 2**0.5, rel_tol=1e-15)
    assert found.levels == ("4bit", "8bit", "8bit", "raw", "raw")
    assert found.order == (0, 1, 2, 3, 4)
    assert decide([5, 1, 3, 4, 2], x=0.5).levels == ("raw", "4bit", "8bit", "raw", "4bit")
    assert decide([1, 2, 3, 4, 5], variant="8bit").levels == ("8bit", "8bit", "8bit", "raw", "raw")
    assert decide([1, 2, 3, 4, 5], variant="3bit/4bit").levels == ("3bit", "4bit", "4bit", "4bit", "4bit")


def test_one_block_and_equal_blocks_are_all_at_the_threshold() -> None:
    assert decide([4.6]).levels == ("4bit",)
    # the rounded mean of 49 times 0.1 would be above or below it
    for count in range(2, 60):
        found = decide([0.1] * count)
        assert (found.mean, found.deviation, set(found.levels)) == (0.1, 0.0, {"4bit"})
        assert found.order == tuple(range(count))


@given(entropies, st.floats(0, 3))
def test_levels_follow_the_thresholds(values: list[float], x: float) -> None:
    found = decide(values, x)
    assert min(values) <= found.mean <= max(values)
    for value, level in zip(values, found.levels, strict=True):
        assert level == ("4bit" if value <= found.threshold else "8bit" if value <= found.mean else "raw")
    assert [values[i] for i in found.order] == sorted(values)
    # equal ones in the model's order
    assert all(a < b for a, b in zip(found.order, found.order[1:], strict=False) if values[a] == values[b])


@given(entropies, st.randoms())
def test_the_place_of_a_block_does_not_matter(values: list[float], random: Random) -> None:
    order = list(range(len(values)))
    random.shuffle(order)
    first, second = decide(values), decide([values[i] for i in order])
    assert second.mean == first.mean and second.threshold == first.threshold
    assert second.levels == tuple(first.levels[i] for i in order)


@given(entropies, st.sampled_from([2.0**-20, 0.5, 4.0, 2.0**20]))
def test_scaling_does_not_matter(values: list[float], factor: float) -> None:
    scaled = [value * factor for value in values]
    assume(all(value == 0 or value * factor > 1e-300 for value in values))
    first, second = decide(values), decide(scaled)
    # powers of two: exactly the same, but where squares get too small
    assume(first.deviation == 0 or first.deviation > 1e-100)
    assert second.levels == first.levels and second.order == first.order


def test_what_cannot_be_decided() -> None:
    with pytest.raises(OptionError, match="no EWQ variant '2bit'"):
        decide([1.0], variant="2bit")
    with pytest.raises(ValueError, match="no blocks"):
        decide([])


def test_blocks_are_in_order_and_hold_what_is_quantised(tmp_path: Path) -> None:
    names = [f"blk.{i}.{kind}" for i in (10, 2) for kind in ("attn_q.weight", "ffn_gate_inp.weight", "attn_q.bias")]
    tensors = {name: random_weights(3, 4, 64) for name in [*names, "token_embd.weight", "dec.blk.0.ffn_up.weight"]}
    model = open_gguf(write_gguf(tmp_path / "m.gguf", tensors))
    found = blocks_of(model.tensors, "llama")
    assert {block: [t.name for t in matrices] for block, matrices in found.items()} == {
        "blk.2": ["blk.2.attn_q.weight"],
        "blk.10": ["blk.10.attn_q.weight"],
        "dec.blk.0": ["dec.blk.0.ffn_up.weight"],
    }


def test_from_a_file_to_proposals(tmp_path: Path) -> None:
    # the wider the weights, the lower the entropy
    widths = {0: 0.5, 1: 0.02, 2: 0.3}
    tensors = {"token_embd.weight": random_weights(9, 40, 64)}
    for i, width in widths.items():
        tensors[f"blk.{i}.attn_q.weight"] = (random_weights(i, 64, 64) * (width / 0.05)).astype(np.float16)
        tensors[f"blk.{i}.ffn_up.weight"] = (random_weights(i + 9, 64, 128) * (width / 0.05)).astype(np.float16)
    model = open_gguf(write_gguf(tmp_path / "m.gguf", tensors))
    seen: list[int] = []
    blocks = ewq.measure(model, threads=2, done=seen.append)
    assert sum(seen) == sum(block.weights for block in blocks) == 3 * 64 * 192
    decisions = decide([block.entropy for block in blocks])
    assert decisions.order == (0, 2, 1)
    assert decisions.levels == ("4bit", "raw", "raw")
    proposals = ewq.propose(blocks, decisions, decisions.levels, LevelTable.changed(["4bit=eoq3"]))
    types = {name: p.type.name if p.type else None for name, p in proposals.tensors.items()}
    assert types == {
        f"blk.{i}.{kind}.weight": "eoq3" if i == 0 else None for i in widths for kind in ("attn_q", "ffn_up")
    }
    assert re.match(r"4bit: entropy 4\.\d+, mean", proposals.tensors["blk.0.attn_q.weight"].why)


def test_a_block_s_entropy_is_weighted() -> None:
    assert Block("blk.0", (Matrix("a", 1, 2.0), Matrix("b", 3, 4.0))).entropy == 3.5


def test_a_model_without_blocks(tmp_path: Path) -> None:
    model = open_gguf(write_gguf(tmp_path / "m.gguf", {"token_embd.weight": random_weights(1, 4, 64)}))
    with pytest.raises(OptionError, match="no blocks"):
        ewq.measure(model)


def test_levels() -> None:
    table = LevelTable()
    assert table["raw"] is None
    assert [t.name for level in ("8bit", "4bit", "2bit", "1.58bit") if (t := table[level])] == [
        "q8_0",
        "eoq4",
        "eoq2",
        "eoq2",
    ]
    assert (raw := LevelTable.changed(["raw=F16"])["raw"]) is not None and raw.name == "f16"
    with pytest.raises(OptionError, match="no level '5bit'"):
        table["5bit"]
    with pytest.raises(OptionError, match="'5bit=eoq5' is not LEVEL=TYPE"):
        LevelTable.changed(["5bit=eoq5"])
    with pytest.raises(UnknownTypeError, match="eoq9"):
        LevelTable.changed(["4bit=eoq9"])
