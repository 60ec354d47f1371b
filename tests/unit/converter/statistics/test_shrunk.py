"""Moments shrunk towards their diagonal."""

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.statistics import ShrunkStatistics
from converter.statistics.shrunk import shrinkage_by_tokens
from tests.samples.memory_model import MemoryStatistics

RNG = np.random.default_rng(20)
INPUTS: dict[str, NDArray[np.float64] | list[NDArray[np.float64]]] = {
    "up": RNG.normal(size=(30, 8)),
    "experts": [RNG.normal(size=(40, 4)), RNG.normal(size=(20, 4))],
}


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, 1.0])
def test_part_of_the_correlations_goes(shrinkage: float) -> None:
    measured = MemoryStatistics(INPUTS)
    shrunk = ShrunkStatistics(measured, shrinkage)
    for name, expert in (("up", 0), ("experts", 1)):
        before = measured.moments(name, expert)
        assert before is not None
        expected = (1 - shrinkage) * before + shrinkage * np.diag(np.diag(before))
        found = shrunk.moments(name, expert)
        assert found is not None and found == pytest.approx(expected, rel=1e-6)
        assert np.array_equal(np.diag(found), np.diag(before))
        # an array of its own each time
        again = measured.moments(name, expert)
        assert again is not None and np.array_equal(again, before)


def test_more_tokens_less_shrinkage() -> None:
    found = [shrinkage_by_tokens(tokens) for tokens in (0, 32_768, 52_428, 65_536, 131_072, 1e9)]
    assert found == [0.5, 0.5, pytest.approx(0.5, rel=1e-4), 0.4, 0.2, 0.2]


def test_each_expert_by_its_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = MemoryStatistics(INPUTS)
    monkeypatch.setattr(measured, "counts", lambda name: np.array([65_536.0, 131_072.0]))
    shrunk = ShrunkStatistics(measured, None)
    for expert, expected in enumerate((0.4, 0.2)):
        before, found = measured.moments("experts", expert), shrunk.moments("experts", expert)
        assert before is not None and found is not None
        assert found[0, 1] == pytest.approx((1 - expected) * before[0, 1], rel=1e-6)
    pooled = measured.pooled_moments("experts", 0)
    assert shrunk.pooled_moments("experts", 0)[0, 1] == pytest.approx(0.8 * pooled[0, 1], rel=1e-6)


def test_pooled_moments_as_well() -> None:
    measured = MemoryStatistics(INPUTS)
    pooled = measured.pooled_moments("experts", 0)
    shrunk = ShrunkStatistics(measured, 0.25).pooled_moments("experts", 0)
    assert shrunk == pytest.approx(0.75 * pooled + 0.25 * np.diag(np.diag(pooled)), rel=1e-6)


def test_all_else_is_said_as_before() -> None:
    measured = MemoryStatistics(INPUTS, diagonal_only=True)
    shrunk = ShrunkStatistics(measured, 0.5)
    assert shrunk.moments("up") is None
    assert np.array_equal(shrunk.pooled_moments("experts", 0), measured.pooled_moments("experts", 0))
    for name in measured.tensor_names:
        assert np.array_equal(shrunk.diagonal(name), measured.diagonal(name))
        assert np.array_equal(shrunk.counts(name), measured.counts(name))
        assert shrunk.row_length(name) == measured.row_length(name)
        assert shrunk.input_key(name) == measured.input_key(name)
    assert shrunk.tensor_names == measured.tensor_names
    assert (shrunk.tokens, shrunk.description, shrunk.has_moments) == (
        measured.tokens,
        measured.description,
        measured.has_moments,
    )
