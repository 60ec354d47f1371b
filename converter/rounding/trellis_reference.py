"""Choosing the codes of a trellis block in plain Python: one row, every state, all of the past, in float64.

Slow, obvious, and what tests compare converter.rounding.trellis_kernels with.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.rounding.trellis_survivors import STATES
from eoq_formats.trellis import TrellisCode, trellis_windows

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Path:
    """A survivor: what it has chosen for the columns so far, and what that costs."""

    cost: float
    codes: tuple[int, ...]
    errors: tuple[float, ...]
    """Weight less rounded weight, column by column."""


def search(desired: Vector, weights: Vector, factor: Vector, pivots: Vector, unit: float, code: TrellisCode) -> Path:
    """The cheapest path at the end, where each state keeps the cheapest path that reaches it, of equals the first.

    All are (w,), the factor (w, w); round_trellis_rows says what they are.
    """
    survivors = {0: Path(0.0, (), ())}
    for j in range(len(weights)):
        best: dict[int, Path] = {}
        for state, path in survivors.items():
            target = float(desired[j] + np.array(path.errors) @ factor[:j, j])
            for newest in range(1 << code.code_bits):
                window = state << code.code_bits | newest
                levels = [int(table[window]) for table in code.levels]
                free = min(range(len(levels)), key=lambda bit: abs(target - levels[bit] * unit))
                rounded = levels[free] * unit
                cost = path.cost + float(pivots[j]) * (target - rounded) ** 2
                reached = window % STATES
                if reached not in best or cost < best[reached].cost:
                    chosen = newest | free << code.code_bits
                    best[reached] = Path(cost, (*path.codes, chosen), (*path.errors, float(weights[j]) - rounded))
        survivors = best
    return min(survivors.values(), key=lambda path: path.cost)


def levels_of(codes: NDArray[np.uint8], code: TrellisCode) -> NDArray[np.int8]:
    """Levels (w,) of codes (w,)."""
    levels: NDArray[np.int8] = code.levels[codes >> code.code_bits, trellis_windows(codes, code)]
    return levels


def cost_of(
    levels: NDArray[np.int8], desired: Vector, weights: Vector, factor: Vector, pivots: Vector, unit: float
) -> float:
    """What levels (w,) cost: Σ pivots · (target - rounded)²."""
    errors = weights - levels * unit
    missed = desired - weights + errors @ factor
    return float(pivots @ np.square(missed))
