"""The column-by-column steps of error feedback, compiled by numba. converter.rounding.block_rounding says what they do.

Rows are independent, and contraction and reordering of floating-point sums stay off: the number of threads does not
change the result.
"""

import numba
import numpy as np

from eoq_formats.block_kernels import fp16_bits, fp16_value

_TWO = np.float32(2)
_LOW_CLAMP = np.float32(-128)
_HIGH_CLAMP = np.float32(127.5)


@numba.njit(cache=True, nogil=True, inline="always")
def _nearest(value, levels, code_of):  # type: ignore[no-untyped-def]
    """Level nearest to a value in units."""
    doubled = min(max(value, _LOW_CLAMP), _HIGH_CLAMP) * _TWO
    return levels[code_of[np.int32(np.floor(doubled)) + 256]]


@numba.njit(parallel=True, cache=True, nogil=True)
def round_rows(targets, weights, factor, pivots, candidates, limits, table, code_of, levels, units):  # type: ignore[no-untyped-def]
    rows, width = targets.shape
    for row in numba.prange(rows):
        moving = np.empty(width, dtype=np.float32)
        tried = np.empty(width, dtype=np.int8)
        best = limits[row]
        for c in range(candidates.shape[1]):
            unit = candidates[row, c]
            if unit <= 0:
                continue
            inverse = np.float32(1) / unit
            for i in range(width):
                moving[i] = targets[row, i]
            cost = np.float64(0)
            for j in range(width):
                level = _nearest(moving[j] * inverse, table, code_of)
                tried[j] = level
                rounded = np.float32(level) * unit
                missed = np.float64(moving[j] - rounded)
                cost += np.float64(pivots[j]) * missed * missed
                if cost >= best:
                    break
                pushed = weights[row, j] - rounded
                for i in range(j + 1, width):
                    moving[i] += pushed * factor[j, i]
            if cost < best:
                best = cost
                units[row] = unit
                for i in range(width):
                    levels[row, i] = tried[i]


@numba.njit(parallel=True, cache=True, nogil=True)
def descend_rows(gradient, matrix, table, code_of, passes, scale_unit, levels, units):  # type: ignore[no-untyped-def]
    rows, width = gradient.shape
    for row in numba.prange(rows):
        unit = units[row]
        if unit <= 0:
            continue
        inverse = np.float32(1) / unit
        slope = gradient[row]
        for _ in range(passes):
            moved = False
            for j in range(width):
                wanted = np.float32(levels[row, j]) * unit + slope[j] / matrix[j, j]
                level = _nearest(wanted * inverse, table, code_of)
                if level != levels[row, j]:
                    change = (np.float32(levels[row, j]) - np.float32(level)) * unit
                    levels[row, j] = level
                    moved = True
                    for i in range(width):
                        slope[i] += change * matrix[j, i]
            if not moved:
                break
        product = np.zeros(width, dtype=np.float32)
        for j in range(width):
            level = np.float32(levels[row, j])
            for i in range(width):
                product[i] += level * matrix[j, i]
        along, curvature = np.float64(0), np.float64(0)
        for j in range(width):
            along += np.float64(levels[row, j]) * np.float64(slope[j])
            curvature += np.float64(levels[row, j]) * np.float64(product[j])
        if curvature <= 0:
            continue
        wanted = max((unit + along / curvature) / scale_unit, 0.0)
        fitted = np.float32(fp16_value(fp16_bits(wanted)) * np.float32(scale_unit))
        step = np.float64(fitted) - np.float64(unit)
        if fitted > 0 and step * step * curvature - 2 * step * along < 0:
            units[row] = fitted
