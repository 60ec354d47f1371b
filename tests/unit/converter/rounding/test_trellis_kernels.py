"""Trellis search with feedback: the codes of the plain version, true costs, limits, and any number of threads."""

from dataclasses import dataclass

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from converter.rounding import trellis_reference as reference
from converter.rounding.trellis_kernels import (
    TrellisEffort,
    refit_trellis_units,
    round_trellis_rows,
)
from eoq_formats.block_kernels import fp16_bits, fp16_value
from eoq_formats.trellis import TrellisCode, trellis_code
from eoq_formats.types import TRELLIS_BITS

EXHAUSTIVE = TrellisEffort(beam=1 << 20, ring=64)
Vector = NDArray[np.float64]


CODES = {f"{bits} bits": trellis_code(bits) for bits in TRELLIS_BITS}
ALL_CODES = pytest.mark.parametrize("code", CODES.values(), ids=CODES.keys())


@dataclass
class Problem:
    desired: NDArray[np.float32]
    weights: NDArray[np.float32]
    factor: NDArray[np.float32]
    pivots: NDArray[np.float32]
    matrix: NDArray[np.float32]

    def row(self, row: int) -> tuple[Vector, Vector, Vector, Vector]:
        desired, weights = self.desired[row].astype(np.float64), self.weights[row].astype(np.float64)
        return desired, weights, self.factor.astype(np.float64), self.pivots.astype(np.float64)


@dataclass
class Result:
    codes: NDArray[np.uint8]
    levels: NDArray[np.int8]
    units: NDArray[np.float32]
    costs: NDArray[np.float64]


def problem(rows: int, width: int, seed: int = 0) -> Problem:
    """Weights for inputs with a few strong directions."""
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((300, 4)) @ random.standard_normal((4, width))
    inputs += random.standard_normal((300, width))
    matrix = inputs.T @ inputs / 300
    lower = np.linalg.cholesky(matrix[::-1, ::-1])[::-1, ::-1]
    factor, pivots = lower / lower.diagonal(), np.square(lower.diagonal())
    weights = random.standard_normal((rows, width))
    desired = weights + random.standard_normal((rows, width)) * 0.2
    arrays = [np.ascontiguousarray(x, dtype=np.float32) for x in (desired, weights, factor, pivots, matrix)]
    return Problem(*arrays)


def rounded(
    p: Problem,
    code: TrellisCode,
    effort: TrellisEffort,
    relative_units: tuple[float, ...] = (1.0,),
    limits: NDArray[np.float64] | None = None,
) -> Result:
    rows, width = p.desired.shape
    result = Result(
        np.zeros((rows, width), dtype=np.uint8),
        np.zeros((rows, width), dtype=np.int8),
        np.zeros(rows, dtype=np.float32),
        np.full(rows, np.nan),
    )
    candidates = np.tile(np.array(relative_units, dtype=np.float32) / np.float32(code.factor), (rows, 1))
    limits = np.full(rows, np.inf) if limits is None else limits
    out = result.codes, result.levels, result.units, result.costs
    round_trellis_rows(p.desired, p.weights, p.factor, p.pivots, candidates, limits, code, effort, *out)
    return result


def recomputed_cost(p: Problem, row: int, levels: NDArray[np.int8], unit: float) -> float:
    return reference.cost_of(levels, *p.row(row), unit)


@ALL_CODES
def test_a_search_of_everything_gives_the_codes_of_the_plain_version(code: TrellisCode) -> None:
    rows = 2 if code.code_bits == 2 else 1
    p = problem(rows, 64)
    result = rounded(p, code, EXHAUSTIVE)
    for row in range(rows):
        expected = reference.search(*p.row(row), float(result.units[row]), code)
        assert tuple(result.codes[row].tolist()) == expected.codes
        assert result.costs[row] == pytest.approx(expected.cost, rel=1e-9)


@ALL_CODES
@pytest.mark.parametrize("ring", [16, 24, 64, 96])
def test_costs_are_those_of_the_codes_at_any_beam_and_ring(code: TrellisCode, ring: int) -> None:
    p = problem(3, 128)
    best = rounded(p, code, EXHAUSTIVE).costs
    for beam in (1, 8, 64):
        result = rounded(p, code, TrellisEffort(beam, ring=ring))
        for row in range(3):
            levels = result.levels[row]
            assert np.array_equal(levels, reference.levels_of(result.codes[row], code))
            expected = recomputed_cost(p, row, levels, float(result.units[row]))
            assert result.costs[row] == pytest.approx(expected, rel=1e-9)
    assert result.costs.sum() < 1.2 * best.sum()


@ALL_CODES
def test_without_feedback_it_is_a_viterbi_search(code: TrellisCode) -> None:
    random = np.random.default_rng(3)
    values = random.standard_normal((4, 64)).astype(np.float32)
    identity = np.eye(64, dtype=np.float32)
    p = Problem(values, values, identity, np.ones(64, dtype=np.float32), identity)
    result = rounded(p, code, EXHAUSTIVE)
    for row in range(4):
        least = viterbi_cost(values[row].astype(np.float64) / float(result.units[row]), code)
        assert result.costs[row] == pytest.approx(least * float(result.units[row]) ** 2, rel=1e-5)


def viterbi_cost(values: NDArray[np.float64], code: TrellisCode) -> float:
    codes = 1 << code.code_bits
    tables = code.levels.astype(np.float64).reshape(len(code.levels), -1, codes)
    cost = np.full(256, np.inf)
    cost[0] = 0
    for value in values:
        reached = cost[:, None] + np.square(value - tables).min(0)
        cost = reached.reshape(codes, 256).min(0)
    return float(cost.min())


@ALL_CODES
def test_the_number_of_threads_does_not_change_the_bytes(code: TrellisCode) -> None:
    p = problem(7, 128)
    before = numba.get_num_threads()
    results = []
    try:
        for threads in (1, min(2, numba.config.NUMBA_NUM_THREADS)):
            numba.set_num_threads(threads)
            results.append(rounded(p, code, TrellisEffort(), (1.0, 0.9, 1.1)))
    finally:
        numba.set_num_threads(before)
    for one, other in zip(vars(results[0]).values(), vars(results[1]).values(), strict=True):
        assert one.tobytes() == other.tobytes()


@ALL_CODES
def test_rows_change_only_below_their_limits(code: TrellisCode) -> None:
    p = problem(4, 64)
    free = rounded(p, code, TrellisEffort())
    limits = free.costs * np.array([0.9, 1.0, 1.1, 1.0])
    limits[3] = np.nextafter(limits[3], np.inf)
    limited = rounded(p, code, TrellisEffort(), limits=limits)
    assert np.array_equal(limited.units > 0, [False, False, True, True])
    assert not limited.codes[:2].any() and not limited.levels[:2].any()
    assert np.array_equal(limited.codes[2:], free.codes[2:])


def test_units_that_are_not_positive_are_left_out() -> None:
    p = problem(2, 64)
    assert not rounded(p, CODES["2 bits"], TrellisEffort(), (0.0,)).units.any()
    result = rounded(p, CODES["2 bits"], TrellisEffort(), (0.0, 1.0))
    assert np.array_equal(result.codes, rounded(p, CODES["2 bits"], TrellisEffort(), (1.0,)).codes)


def test_more_candidates_and_wider_beams_are_better_on_the_whole() -> None:
    p = problem(24, 128)
    code = CODES["2 bits"]
    narrow = rounded(p, code, TrellisEffort(beam=4)).costs.sum()
    wide = rounded(p, code, TrellisEffort(beam=64)).costs.sum()
    tried = rounded(p, code, TrellisEffort(beam=64), (1.0, 0.9, 1.1, 0.8)).costs.sum()
    assert tried < wide < narrow


@ALL_CODES
def test_a_refit_never_makes_the_error_larger(code: TrellisCode) -> None:
    p = problem(6, 64)
    result = rounded(p, code, TrellisEffort(), (0.03,))
    matrix = p.matrix.astype(np.float64)

    def costs(units: NDArray[np.float32]) -> NDArray[np.float64]:
        errors = p.weights - result.levels * units[:, None].astype(np.float64)
        return np.asarray(np.einsum("ri,ij,rj->r", errors, matrix, errors))

    scale_unit = 2.0**-9
    gradient = ((p.weights - result.levels * result.units[:, None]) @ p.matrix).astype(np.float32)
    units = result.units.copy()
    refit_trellis_units(gradient, p.matrix, result.levels, scale_unit, units)
    assert (costs(units) <= costs(result.units)).all()
    assert (units != result.units).any()
    for unit in units[units != result.units]:
        assert fp16_value(fp16_bits(float(unit) / scale_unit)) * scale_unit == unit
