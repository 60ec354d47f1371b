"""Rounding a block of many rows to the levels of a trellis code, with error feedback, compiled by numba.

The level of a column is a function of its code and of the codes before it, so that codes are not chosen one by one:
converter.rounding.trellis_survivors searches. The plain version is converter/rounding/trellis_reference.py.

Rows are independent, and contraction and reordering of floating-point sums stay off: the number of threads does not
change the result.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from converter.rounding.feedback_kernels import refitted_unit
from converter.rounding.trellis_survivors import make_reached, make_rings, make_survivors, search
from eoq_formats.compiled import njit
from eoq_formats.trellis import TrellisCode

_GROUP = 8
"""Rows that share working memory."""

_SLACK = 0.04
"""A search is given up where it would have to win more than this part of what the best so far paid for the rest."""


class TrellisEffort(NamedTuple):
    """How hard the search tries."""

    beam: int = 48
    """Survivors, about; at most 256."""
    ring: int = 64
    """Columns in which survivors may differ, a multiple of 8, at least 16."""
    candidates: int = 3
    """Units to try: each costs a search, though most searches are given up early."""
    sweeps: int = 0
    """How often all blocks are rounded again: a first sweep takes 1 % off the error, a second one hardly anything."""


EFFORTS = {
    1: TrellisEffort(beam=16),
    2: TrellisEffort(),
    3: TrellisEffort(beam=64, ring=96, candidates=5, sweeps=1),
}
"""Fast, usual and thorough."""


def round_trellis_rows(
    desired: NDArray[np.float32],
    weights: NDArray[np.float32],
    factor: NDArray[np.float32],
    pivots: NDArray[np.float32],
    candidates: NDArray[np.float32],
    limits: NDArray[np.float64],
    code: TrellisCode,
    effort: TrellisEffort,
    codes: NDArray[np.uint8],
    levels: NDArray[np.int8],
    units: NDArray[np.float32],
    costs: NDArray[np.float64],
) -> None:
    """Round with feedback inside the block, with the best of the candidate units.

    Column j of `desired` (rows, w) becomes a target with what the errors of the columns before push onto it through
    `factor` (w, w), unit upper triangular; errors are measured against `weights` (rows, w). The cost is
    Σ pivots · (target - level · unit)² with pivots (w,). `candidates` (rows, n) are units, the likely first; those that
    are not positive are left out. Where the cost found is below the row's limit (rows,), codes (rows, w), levels
    (rows, w), units (rows,) and costs (rows,) are written; other rows stay. All of `candidates` are tried, whatever
    `effort` says of their number.
    """
    _round_rows(
        desired,
        weights,
        factor,
        pivots,
        candidates,
        limits,
        code.levels,
        code.code_bits,
        effort.beam,
        effort.ring,
        codes,
        levels,
        units,
        costs,
    )


@njit(parallel=True, nogil=True)
def _round_rows(  # type: ignore[no-untyped-def]
    desired,
    weights,
    factor,
    pivots,
    candidates,
    limits,
    table,
    code_bits,
    beam,
    ring,
    codes,
    levels,
    units,
    costs,
):
    rings = make_rings(factor, ring)
    exact = table.astype(np.float32)
    rows, width = desired.shape
    for group in numba.prange((rows + _GROUP - 1) // _GROUP):
        survivors, reached = make_survivors(ring), make_reached()
        tried, decoded = np.empty(width, dtype=np.uint8), np.empty(width, dtype=np.int8)
        for row in range(group * _GROUP, min(rows, (group + 1) * _GROUP)):
            problem = desired[row], weights[row], factor, rings, pivots, exact, code_bits
            unit = _try_units(problem, candidates[row], beam, survivors, reached, tried)
            if unit <= 0:
                continue
            decode(tried, table, code_bits, decoded)
            cost = _cost(desired[row], weights[row], factor, pivots, decoded, unit)
            if cost < limits[row]:
                codes[row], levels[row], units[row], costs[row] = tried, decoded, unit, cost


@njit(nogil=True)
def _try_units(problem, candidates, beam, survivors, reached, codes):  # type: ignore[no-untyped-def]
    """Choose codes uint8 (w,); returns the unit they are for, zero where no candidate is positive."""
    width = codes.shape[0]
    best, totals = np.full(width, np.inf), np.empty(width, dtype=np.float64)
    tried = np.empty(width, dtype=np.uint8)
    chosen = np.float32(0)
    for unit in candidates:
        if unit > 0:
            cost = _search_in_units(problem, unit, beam, best, totals, survivors, reached, tried)
            if cost < best[width - 1]:
                best[:], codes[:], chosen = totals, tried, unit
    return chosen


@njit(nogil=True)
def _search_in_units(problem, unit, beam, best, totals, survivors, reached, tried):  # type: ignore[no-untyped-def]
    """The search at one unit; returns the cost, infinite where it is not going to be below the best so far.

    best and totals float64 (w,) are the costs up to each column, of the best so far and of this.
    """
    desired, weights, factor, rings, pivots, exact, code_bits = problem
    inverse = np.float32(1) / unit
    square = np.float64(unit) * np.float64(unit)
    shared, own = desired * inverse, weights * inverse
    last = best[best.shape[0] - 1]
    # before there is a best, last - best would be no number
    bounds = (best + _SLACK * (last - best)) / square if last < np.inf else best
    cost = square * search(
        shared,
        own,
        factor,
        rings,
        pivots,
        exact,
        code_bits,
        beam,
        bounds,
        totals,
        survivors,
        reached,
        tried,
    )
    totals *= square
    return cost


@njit(nogil=True)
def _cost(desired, weights, factor, pivots, levels, unit):  # type: ignore[no-untyped-def]
    """The cost of levels, in float64."""
    width = desired.shape[0]
    missed = np.empty(width, dtype=np.float64)
    for j in range(width):
        missed[j] = np.float64(desired[j]) - np.float64(weights[j])
    cost = np.float64(0)
    for i in range(width):
        error = np.float64(weights[i]) - np.float64(levels[i]) * np.float64(unit)
        # from zero: indexes that might be negative are not vectorised
        rest, pushed = missed[i + 1 :], factor[i, i + 1 :]
        for j in range(rest.shape[0]):
            rest[j] += error * pushed[j]
        missed[i] += error
        cost += np.float64(pivots[i]) * missed[i] * missed[i]
    return cost


@njit(nogil=True)
def decode(codes, table, code_bits, levels):  # type: ignore[no-untyped-def]
    """Levels int8 (w,) of codes uint8 (w,); the table is int8 (1 or 2, windows)."""
    window, codes_of_bits = 0, 1 << code_bits
    for j in range(codes.shape[0]):
        code = np.int64(codes[j])
        window = (window << code_bits | code & (codes_of_bits - 1)) & (table.shape[1] - 1)
        levels[j] = table[code >> code_bits, window]


@njit(parallel=True, nogil=True)
def refit_trellis_units(gradient, matrix, levels, scale_unit, units):  # type: ignore[no-untyped-def]
    """Move units float32 (rows,) to the least squares of their levels int8 (rows, w), wherever that lowers the cost.

    `gradient` float32 (rows, w) is this block of E H, `matrix` (w, w) the block of H; all other blocks stay. Units are
    `scale_unit` times an fp16 number.
    """
    for row in numba.prange(gradient.shape[0]):
        if units[row] > 0:
            units[row] = refitted_unit(gradient[row], matrix, levels[row], scale_unit, units[row])
