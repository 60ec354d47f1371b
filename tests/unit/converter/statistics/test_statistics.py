"""What statistics give to round by, and what they warn of, whatever file they come from."""

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.statistics import ShrunkStatistics, Statistics
from tests.samples.memory_model import MemoryStatistics

N = 8
UP, DOWN = "blk.0.ffn_up_exps.weight", "blk.0.ffn_down_exps.weight"


def tokens(seed: int, count: int, n: int = N) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, n)) * np.arange(1, n + 1)


def moments_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(x.T @ x / len(x))


def given(statistics: Statistics, name: str, expert: int = 0) -> NDArray[np.float32]:
    """What is rounded by, of its own and not pooled."""
    found = statistics.for_rounding(name, expert)
    assert not found.is_pooled
    return found.values


@pytest.mark.parametrize("count", [1, 200])
def test_a_dense_tensor_is_rounded_by_its_own_moments_however_few_its_tokens(count: int) -> None:
    x = tokens(1, count)
    full, diagonal = MemoryStatistics({"q": x}), MemoryStatistics({"q": x}, diagonal_only=True)
    assert np.allclose(given(full, "q"), moments_of(x), rtol=1e-6)
    assert np.allclose(given(diagonal, "q"), np.diag(moments_of(x)), rtol=1e-6)
    assert given(full, "q").dtype == given(diagonal, "q").dtype == np.float32


def test_an_expert_that_saw_enough_is_rounded_by_its_own_moments() -> None:
    # of 8 channels, full moments take 4 tokens
    experts = [tokens(1, 4), tokens(2, 3), tokens(3, 90)]
    statistics = MemoryStatistics({UP: experts})
    for expert in (0, 2):
        assert np.allclose(given(statistics, UP, expert), moments_of(experts[expert]), rtol=1e-6)


@pytest.mark.parametrize("few", [0, 3])
def test_an_expert_that_saw_too_few_is_rounded_by_the_tokens_of_all(few: int) -> None:
    experts = [tokens(1, 4), tokens(2, few), tokens(3, 90)]
    found = MemoryStatistics({UP: experts}).for_rounding(UP, 1)
    assert found.is_pooled and np.allclose(found.values, moments_of(np.concatenate(experts)), rtol=1e-5)


def test_of_a_diagonal_fewer_tokens_are_enough() -> None:
    n = 128  # which takes 2 tokens, and 64 of full moments
    experts = [tokens(1, 2, n), tokens(2, 1, n), tokens(3, 0, n)]
    statistics = MemoryStatistics({UP: experts}, diagonal_only=True)
    assert np.allclose(given(statistics, UP, 0), np.diag(moments_of(experts[0])), rtol=1e-5)
    pooled = np.diag(moments_of(np.concatenate(experts)))
    for expert in (1, 2):
        found = statistics.for_rounding(UP, expert)
        assert found.is_pooled and np.allclose(found.values, pooled, rtol=1e-5)


def test_what_flows_into_ffn_down_is_known_to_the_expert_alone() -> None:
    n = 128
    experts = [tokens(1, 2, n), tokens(2, 1, n)]
    statistics = MemoryStatistics({DOWN: experts, UP: experts})
    assert np.allclose(given(statistics, DOWN, 0), moments_of(experts[0]), rtol=1e-5)
    assert statistics.for_rounding(DOWN, 1).is_pooled and statistics.for_rounding(UP, 0).is_pooled


def test_experts_that_all_saw_too_few_share_the_moments_of_all() -> None:
    experts = [tokens(1, 2), tokens(2, 1)]
    statistics = MemoryStatistics({UP: experts})
    found = [statistics.for_rounding(UP, expert) for expert in range(2)]
    assert all(one.is_pooled for one in found)
    assert np.array_equal(found[0].values, found[1].values)
    assert np.allclose(found[0].values, moments_of(np.concatenate(experts)), rtol=1e-5)


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_the_array_is_a_new_one_each_time(diagonal_only: bool) -> None:
    statistics = MemoryStatistics({UP: [tokens(1, 40), tokens(2, 0)]}, diagonal_only)
    for expert in range(2):
        before = statistics.for_rounding(UP, expert).values
        expected = before.copy()
        before *= 0
        assert np.array_equal(statistics.for_rounding(UP, expert).values, expected)


def test_pooled_moments_are_shrunk_like_others() -> None:
    measured = MemoryStatistics({UP: [tokens(1, 40), tokens(2, 1)]})
    for expert in range(2):
        whole = measured.for_rounding(UP, expert)
        found = ShrunkStatistics(measured, 0.25).for_rounding(UP, expert)
        assert found.is_pooled == whole.is_pooled == (expert == 1)
        assert np.allclose(found.values, 0.75 * whole.values + 0.25 * np.diag(np.diag(whole.values)), rtol=1e-5)


def test_warnings_name_what_saw_too_few_tokens_and_repeat_the_notes() -> None:
    statistics = MemoryStatistics({"q": tokens(1, 3), "k": tokens(1, 4), UP: [tokens(1, 40), tokens(2, 1)]})
    statistics.notes = ("a note",)
    assert list(statistics.warnings()) == [
        "a note",
        "q saw 3 tokens of calibration, and needs 4 for statistics to rely on; give more text",
        f"1 of 2 experts of {UP} saw fewer than 4 tokens of calibration, and are rounded by the moments of all; give "
        "more text, or calibrate with --all-experts",
    ]
    assert list(MemoryStatistics({"k": tokens(1, 4)}).warnings()) == []


def test_one_warning_stands_for_all_tensors_of_a_kind() -> None:
    few = {f"blk.{i}.attn_q.weight": tokens(i, 1 + i % 3) for i in range(50)}
    mixtures = {
        f"blk.{i}.ffn_up_exps.weight": [tokens(i, 40), *(tokens(9, j) for j in range(i % 4))] for i in range(50)
    }
    ordinary, mixed = MemoryStatistics({**few, **mixtures}).warnings()
    assert ordinary.startswith("blk.0.attn_q.weight, the worst of 50 tensors, saw 1 tokens of calibration")
    # with 0, 1 and 2 tokens, where 4 are few
    assert mixed.startswith("3 of 4 experts of blk.3.ffn_up_exps.weight, the worst of 37 tensors, saw fewer than 4")
