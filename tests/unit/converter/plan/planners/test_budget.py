"""The least loss within a budget."""

import itertools

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from hypothesis import given, settings
from hypothesis import strategies as st

from converter.errors import OptionError
from converter.options import TypeOptions
from converter.plan import Plan, resolve_plan
from converter.plan.planners.allocation import Choice, allocate
from converter.plan.planners.budget import propose_within
from converter.plan.planners.losses import TensorLoss, candidates
from converter.plan.precision_levels import LADDERS
from converter.type_choice import TypeChoice, parse_type
from eoq_formats.codebooks import codebook
from gguf_files.tensor_types import bits_per_weight, row_bytes, type_name
from gguf_files.tensors import TensorInfo

choices = st.lists(st.builds(Choice, st.integers(1, 60), st.integers(0, 50).map(float)), min_size=1, max_size=5)
problems = st.lists(choices, min_size=1, max_size=5)


def totals(tensors: list[list[Choice]], chosen: list[int]) -> tuple[int, float]:
    picked = [found[i] for found, i in zip(tensors, chosen, strict=True)]
    return sum(c.nbytes for c in picked), sum(c.loss for c in picked)


def exhaustive(tensors: list[list[Choice]], budget: int) -> float:
    """The least loss of all combinations that fit."""
    sums = (totals(tensors, list(c)) for c in itertools.product(*(range(len(found)) for found in tensors)))
    return min((loss for nbytes, loss in sums if nbytes <= budget), default=float("inf"))


@given(problems, st.integers(0, 300))
def test_never_over_the_budget_and_within_one_step_of_the_best(tensors: list[list[Choice]], budget: int) -> None:
    best = exhaustive(tensors, budget)
    chosen = allocate(tensors, budget)
    if chosen is None:
        assert best == float("inf")
        return
    nbytes, loss = totals(tensors, chosen)
    assert nbytes <= budget and loss >= best
    # the bound of the relaxation: no further from the best than the largest gain that a single tensor offers
    assert loss - best <= max(max(c.loss for c in found) - min(c.loss for c in found) for found in tensors)


@given(problems, st.integers(0, 300))
def test_no_single_change_is_better(tensors: list[list[Choice]], budget: int) -> None:
    chosen = allocate(tensors, budget)
    if chosen is None:
        return
    nbytes, _ = totals(tensors, chosen)
    for found, i in zip(tensors, chosen, strict=True):
        for other in found:
            assert other.loss >= found[i].loss or nbytes + other.nbytes - found[i].nbytes > budget


def test_computed_by_hand() -> None:
    one = [Choice(10, 8.0), Choice(20, 2.0), Choice(30, 1.0)]
    two = [Choice(10, 9.0), Choice(20, 5.0), Choice(30, 0.0)]  # the middle lies above the line
    assert allocate([one, two], 19) is None
    assert allocate([one, two], 20) == [0, 0]
    assert allocate([one, two], 30) == [1, 0]
    assert allocate([one, two], 50) == [1, 2]
    # the middle of the second is off the hull, but fits where the last does not
    assert allocate([one, two], 40) == [1, 1]
    assert allocate([one, two], 1000) == [2, 2]
    assert allocate([], 0) == []


def test_a_thousand_tensors() -> None:
    random = np.random.default_rng(1)
    sizes, errors = random.integers(10**4, 10**7, 1000), random.lognormal(0, 2, 1000)
    tensors = [
        [Choice(int(n) * bits, float(e) * 4.0**-bits) for bits in (2, 3, 4, 5, 6, 8, 16)]
        for n, e in zip(sizes, errors, strict=True)
    ]
    chosen = allocate(tensors, int(sizes.sum()) * 4)
    assert chosen is not None
    nbytes, _ = totals(tensors, chosen)
    assert int(sizes.sum()) * 4 - max(sizes) < nbytes <= int(sizes.sum()) * 4


MODEL = [
    TensorInfo("token_embd.weight", (256, 1000), T.F16),
    *(TensorInfo(f"blk.{i}.ffn_up.weight", (256, 512), T.F16) for i in range(6)),
    TensorInfo("blk.0.attn_norm.weight", (256,), T.F32),
    TensorInfo("blk.0.odd.weight", (96, 32), T.F16),
]


def plan_within(budget: int, losses: dict[str, TensorLoss], overrides: tuple[str, ...] = ()) -> Plan:
    types = TypeOptions(tensor_types=overrides)
    fixed = {t.name: T.Q8_0 for t in MODEL if types.override_of(t.name) is not None}
    proposals = propose_within(budget, MODEL, "llama", losses, fixed)
    return resolve_plan(MODEL, "llama", types, proposals)


@settings(deadline=None)  # the first plan compiles expressions
@given(st.integers(100_000, 1_600_000), st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6))
def test_plans_keep_the_budget(budget: int, weights: list[float]) -> None:
    losses = {f"blk.{i}.ffn_up.weight": TensorLoss(feedback=w, nearest=w) for i, w in enumerate(weights)}
    least = sum(min(c.nbytes for c in candidates(t)) for t in MODEL if t.dimensions > 1) + 256 * 4
    if budget < least:
        with pytest.raises(OptionError, match=r"too small: in the smallest types they take"):
            plan_within(budget, losses)
        return
    plan = plan_within(budget, losses)
    assert plan.nbytes <= budget
    # who costs more never gets fewer bits
    bits = {t.tensor.name: t.bits_per_weight for t in plan.tensors}
    for i, j in itertools.permutations(range(6), 2):
        if weights[i] > weights[j]:
            assert bits[f"blk.{i}.ffn_up.weight"] >= bits[f"blk.{j}.ffn_up.weight"]
    larger = min(t.nbytes for t in MODEL[:7])
    assert budget - plan.nbytes < larger or all(t.is_copy for t in plan.tensors)


@given(st.integers(300_000, 900_000), st.lists(st.floats(1e-3, 1e3), min_size=6, max_size=6))
def test_no_weight_gets_less_than_one_type_throughout_would_give_it(budget: int, weights: list[float]) -> None:
    losses = {f"blk.{i}.ffn_up.weight": TensorLoss(feedback=w, nearest=w) for i, w in enumerate(weights)}
    ladder = [parse_type(name) for name in LADDERS["scalar"]]
    planned = [t for t in MODEL if t.row_length == 256 and t.dimensions > 1]
    others = sum(t.nbytes for t in MODEL if t not in planned)

    def throughout(choice: TypeChoice) -> int:
        t = choice.for_row(256)
        assert t is not None
        return sum(row_bytes(t, 256) * tensor.rows for tensor in planned)

    fits = [choice for choice in ladder if throughout(choice) + others <= budget]
    plan = plan_within(budget, losses)
    if fits:
        least = fits[-1].for_row(256)
        assert least is not None
        assert all(t.bits_per_weight >= bits_per_weight(least) for t in plan.tensors if t.tensor in planned)


def test_fixed_types_are_counted() -> None:
    plan = plan_within(900_000, {}, ("token_embd=q8_0",))
    types = {t.tensor.name: type_name(t.type) for t in plan.tensors}
    assert types["token_embd.weight"] == "q8_0" and types["blk.0.attn_norm.weight"] == "f32"
    assert plan.nbytes <= 900_000


def test_candidates_fit_the_rows_and_are_smaller_than_the_source() -> None:
    assert [type_name(c.type) for c in candidates(TensorInfo("a", (192, 4), T.BF16))] == [
        *(f"eoq{b}_64" for b in range(2, 7)),
        "q8_0",
        "bf16",
    ]
    assert [type_name(c.type) for c in candidates(TensorInfo("a", (100, 4), T.F32))] == ["f16", "f32"]
    assert [type_name(c.type) for c in candidates(TensorInfo("a", (256, 4), T.Q4_0))] == [
        "eoq2",
        "eoq3",
        "eoq4",
        "q4_0",
    ]


def test_losses_fall_with_the_bits() -> None:
    loss = TensorLoss(feedback=0.3, nearest=0.9)
    assert loss.of(candidates(MODEL[1])[2].type) == pytest.approx(0.3 * codebook(4).mse)
    values = [loss.of(c.type) for c in candidates(MODEL[1])]
    assert len(values) == 7
    assert values == sorted(values, reverse=True) and values[-1] > 0
    assert candidates(MODEL[1])[-1].choice is None


def test_a_trellis_loses_less_than_a_codebook_of_its_bits_and_more_than_one_of_more() -> None:
    loss = TensorLoss()
    scalar, trellis = ([loss.of(c.type) for c in candidates(MODEL[1], LADDERS[codes])] for codes in LADDERS)
    assert trellis == sorted(trellis, reverse=True) and len(trellis) == len(scalar) == 7
    assert trellis[4:] == scalar[4:]
    for i in range(4):
        assert scalar[i + 1] < trellis[i] < 0.8 * scalar[i]


def test_a_plan_may_be_of_trellis_types() -> None:
    proposals = propose_within(300_000, MODEL, "llama", {}, ladder=LADDERS["trellis"])
    chosen = {p.type.name for p in proposals.tensors.values() if p.type is not None}
    assert chosen and chosen <= {"eoq2t", "eoq3t", "eoq4t", "eoq5t"}
