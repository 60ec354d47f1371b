"""The column-by-column steps of error feedback, compiled by numba. converter.rounding.block_rounding says what they do.

Rows are independent, and contraction and reordering of floating-point sums stay off: the number of threads does not
change the result.
"""

import numba
import numpy as np

from eoq_formats.block_kernels import fp16_bits, fp16_value, place_of
from eoq_formats.compiled import njit

LANES = 64
"""Rows that are rounded side by side."""


@njit(nogil=True, inline="always")
def _nearest(value, levels, code_of):  # type: ignore[no-untyped-def]
    """Level nearest to a value in units."""
    return levels[code_of[place_of(value)]]


@njit(parallel=True, nogil=True)
def round_rows(desired, weights, factor, pivots, candidates, limits, table, levels, units):  # type: ignore[no-untyped-def]
    rows, width = desired.shape
    steps, boundaries = _steps(table)
    pushes = factor.T.copy()
    for group in numba.prange((rows + LANES - 1) // LANES):
        # many rows side by side, so that every inner loop is long enough for vector instructions
        first = group * LANES
        given = np.empty((width, LANES), dtype=np.float32)
        own = np.empty((width, LANES), dtype=np.float32)
        pushed = np.empty((width, LANES), dtype=np.float32)
        tried = np.empty((width, LANES), dtype=np.float32)
        best = np.empty(LANES, dtype=np.float64)
        for lane in range(LANES):
            row = min(first + lane, rows - 1)
            best[lane] = limits[row]
            for i in range(width):
                given[i, lane] = desired[row, i]
                own[i, lane] = weights[row, i]
        unit = np.empty(LANES, dtype=np.float32)
        inverse = np.empty(LANES, dtype=np.float32)
        for c in range(candidates.shape[1]):
            for lane in range(LANES):
                unit[lane] = candidates[min(first + lane, rows - 1), c]
                inverse[lane] = np.float32(1) / unit[lane] if unit[lane] > 0 else np.float32(0)
            cost = _round_lanes(
                given, own, pushed, pushes, pivots, unit, inverse, best, table[0], steps, boundaries, tried
            )
            for lane in range(min(LANES, rows - first)):
                if cost[lane] < best[lane] and unit[lane] > 0:
                    best[lane] = cost[lane]
                    units[first + lane] = unit[lane]
                    for i in range(width):
                        levels[first + lane, i] = np.int8(tried[i, lane])


@njit(nogil=True)
def _round_lanes(given, own, pushed, pushes, pivots, unit, inverse, best, lowest, steps, boundaries, tried):  # type: ignore[no-untyped-def]
    """Round LANES rows with one unit each; returns their costs, infinite where all are above the best so far.

    What column i pushes is own[i] less what it was rounded to, and `pushes`[j, i] times that goes to column j.
    """
    width = given.shape[0]
    cost = np.zeros(LANES, dtype=np.float64)
    target = np.empty(LANES, dtype=np.float32)
    scaled = np.empty(LANES, dtype=np.float32)
    for j in range(width):
        target[:] = given[j]
        _add_pushes(target, pushed, pushes[j], j)
        for lane in range(LANES):
            scaled[lane] = target[lane] * inverse[lane]
            tried[j, lane] = lowest
        for k in range(steps.shape[0]):
            step, boundary = steps[k], boundaries[k]
            for lane in range(LANES):
                tried[j, lane] += step if scaled[lane] >= boundary else np.float32(0)
        for lane in range(LANES):
            rounded = tried[j, lane] * unit[lane]
            missed = np.float64(target[lane] - rounded)
            cost[lane] += np.float64(pivots[j]) * missed * missed
            pushed[j, lane] = own[j, lane] - rounded
        if j % 16 == 15:
            hopeless = True
            for lane in range(LANES):
                hopeless &= cost[lane] >= best[lane]
            if hopeless:
                cost[:] = np.inf
                return cost
    return cost


@njit(nogil=True)
def _add_pushes(target, pushed, factors, count):  # type: ignore[no-untyped-def]
    """Add what the first `count` columns push, eight at a time: fewer loads and stores of the sums."""
    whole = count // 8 * 8
    for i in range(0, whole, 8):
        f0, f1, f2, f3 = factors[i], factors[i + 1], factors[i + 2], factors[i + 3]
        f4, f5, f6, f7 = factors[i + 4], factors[i + 5], factors[i + 6], factors[i + 7]
        p0, p1, p2, p3 = pushed[i], pushed[i + 1], pushed[i + 2], pushed[i + 3]
        p4, p5, p6, p7 = pushed[i + 4], pushed[i + 5], pushed[i + 6], pushed[i + 7]
        for lane in range(LANES):
            low = p0[lane] * f0 + p1[lane] * f1 + p2[lane] * f2 + p3[lane] * f3
            high = p4[lane] * f4 + p5[lane] * f5 + p6[lane] * f6 + p7[lane] * f7
            target[lane] += low + high
    for i in range(whole, count):
        weight = factors[i]
        for lane in range(LANES):
            target[lane] += pushed[i, lane] * weight


@njit(nogil=True)
def _steps(table):  # type: ignore[no-untyped-def]
    """Differences of neighbouring levels and the boundaries between them, float32; half a level is exact."""
    count = table.shape[0] - 1
    steps, boundaries = np.empty(count, dtype=np.float32), np.empty(count, dtype=np.float32)
    for k in range(count):
        steps[k] = np.float32(table[k + 1]) - np.float32(table[k])
        boundaries[k] = (np.float32(table[k + 1]) + np.float32(table[k])) / np.float32(2)
    return steps, boundaries


@njit(parallel=True, nogil=True)
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
        units[row] = refitted_unit(slope, matrix, levels[row], scale_unit, unit)


@njit(nogil=True)
def refitted_unit(slope, matrix, levels, scale_unit, unit):  # type: ignore[no-untyped-def]
    """The unit of least squares for levels int8 (w,), `scale_unit` times an fp16 number; `unit` if that is no better.

    `slope` float32 (w,) is the row of E H in this block, `matrix` (w, w) the block of H.
    """
    width = levels.shape[0]
    product = np.zeros(width, dtype=np.float32)
    for j in range(width):
        level = np.float32(levels[j])
        for i in range(width):
            product[i] += level * matrix[j, i]
    along, curvature = np.float64(0), np.float64(0)
    for j in range(width):
        along += np.float64(levels[j]) * np.float64(slope[j])
        curvature += np.float64(levels[j]) * np.float64(product[j])
    if curvature <= 0:
        return unit
    wanted = max((unit + along / curvature) / scale_unit, 0.0)
    fitted = np.float32(fp16_value(fp16_bits(wanted)) * np.float32(scale_unit))
    step = np.float64(fitted) - np.float64(unit)
    if fitted > 0 and step * step * curvature - 2 * step * along < 0:
        return fitted
    return unit
