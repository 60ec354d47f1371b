"""Error feedback in plain NumPy: one row, one column at a time, in float64. Slow, obvious, and what tests compare with.

Everything is in the rotated basis, with the blocks in the order of rounding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eoq_formats.codebooks import codebook
from eoq_formats.reference import LEVEL_UNIT
from eoq_formats.types import WeightType

Vector = NDArray[np.float64]


@dataclass
class ReferenceRow:
    """A row while it is rounded: levels (n,) and the units of its blocks (n // w,)."""

    levels: Vector
    units: Vector

    def weights(self, width: int) -> Vector:
        return self.levels * np.repeat(self.units, width)


def first_pass(weights: Vector, hessian: Vector, t: WeightType, scales: tuple[float, ...]) -> ReferenceRow:
    """Round a row (n,) for H (n, n): each column takes on the errors before it, each block the cheapest of its scales.

    The cost of column j is the least that its rounding adds to e H eᵀ, whatever the later columns do.
    """
    n, width = len(weights), t.width
    factor, pivots = unit_upper_factor(hessian)
    row = ReferenceRow(np.zeros(n), np.zeros(n // width))
    errors = np.zeros(n)
    for start in range(0, n, width):
        stop = start + width
        desired = weights[start:stop] + errors[:start] @ factor[:start, start:stop]
        root_mean_square = np.sqrt(np.mean(np.square(desired)))
        best = np.inf
        for scale in scales:
            unit = fp16_unit(root_mean_square / codebook(t.bits).factor * scale, t)
            tried, levels, cost = errors.copy(), np.zeros(width), 0.0
            for j in range(start, stop):
                target = weights[j] + tried[:j] @ factor[:j, j]
                levels[j - start] = nearest_level(target / unit, t)
                rounded = levels[j - start] * unit
                tried[j] = weights[j] - rounded
                cost += pivots[j] * (target - rounded) ** 2
            if cost < best:
                best, row.levels[start:stop], row.units[start // width] = cost, levels, unit
        errors[start:stop] = weights[start:stop] - row.weights(width)[start:stop]
    return row


def descend(row: ReferenceRow, weights: Vector, hessian: Vector, t: WeightType, block: int, passes: int) -> None:
    """Move single levels of a block, then its unit, wherever that lowers e H eᵀ while all else stays."""
    start, stop = block * t.width, (block + 1) * t.width
    unit = row.units[block]
    for _ in range(passes):
        before = row.levels.copy()
        for j in range(start, stop):
            slope = (weights - row.weights(t.width)) @ hessian[:, j]
            row.levels[j] = nearest_level(row.levels[j] + slope / hessian[j, j] / unit, t)
        if np.array_equal(before, row.levels):
            break
    levels = row.levels[start:stop]
    along = levels @ ((weights - row.weights(t.width)) @ hessian)[start:stop]
    curvature = levels @ hessian[start:stop, start:stop] @ levels
    fitted = fp16_unit(unit + along / curvature, t)
    step = fitted - unit
    if fitted > 0 and step * step * curvature - 2 * step * along < 0:
        row.units[block] = fitted


def cost(row: ReferenceRow, weights: Vector, hessian: Vector, width: int) -> float:
    """e H eᵀ"""
    errors = weights - row.weights(width)
    return float(errors @ hessian @ errors)


def unit_upper_factor(matrix: Vector) -> tuple[Vector, Vector]:
    """M (unit upper triangular) and p with M diag(p) Mᵀ = matrix, by elimination from the last column on."""
    n = len(matrix)
    rest, factor, pivots = matrix.copy(), np.eye(n), np.zeros(n)
    for j in range(n - 1, -1, -1):
        pivots[j] = rest[j, j]
        factor[:j, j] = rest[:j, j] / pivots[j]
        rest[:j, :j] -= pivots[j] * np.outer(factor[:j, j], factor[:j, j])
    return factor, pivots


def nearest_level(value: float, t: WeightType) -> float:
    """The level nearest to a value in units; halfway, the higher one."""
    levels = codebook(t.bits).levels.astype(np.float64)
    return float(levels[np.searchsorted((levels[:-1] + levels[1:]) / 2, value, side="right")])


def fp16_unit(unit: float, t: WeightType) -> float:
    """The nearest unit that an fp16 scale can express."""
    one = LEVEL_UNIT * np.sqrt(t.width)
    return float(np.float16(max(unit, 0.0) / one)) * float(one)
