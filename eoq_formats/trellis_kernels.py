"""One block of a trellis type at a time, compiled by numba. `eoq_formats.kernels` runs these over rows."""

import math
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.block_kernels import (
    STATUS_NON_FINITE,
    STATUS_OK,
    STATUS_SCALE_OVERFLOW,
    fp16_bits,
    fp16_value,
    sum_by_halves,
    transform,
)
from eoq_formats.reference import INPUT_LIMIT, LEVEL_UNIT, TRELLIS_MARGIN
from eoq_formats.trellis import chain_order, trellis_code
from eoq_formats.types import WeightType
from eoq_formats.viterbi import LARGEST_COST, LARGEST_MISS, levels_by_state

_inline = numba.njit(cache=True, inline="never", nogil=True)
_LARGEST_COST = np.int16(LARGEST_COST)
_LARGEST_MISS, _LEAST_MISS = np.int16(LARGEST_MISS), np.int16(-LARGEST_MISS)


class TrellisTables(NamedTuple):
    """Constants of a trellis type as the kernels take them."""

    code_bits: int
    memory: int
    has_free_bit: bool
    order: NDArray[np.intp]
    levels: NDArray[np.int8]
    """int8 (2, windows): by free bit and window; the same twice where there is no free bit."""
    doubled: NDArray[np.int16]
    """int16 (1 or 2, oldest code, newest code, newer states): twice the level."""
    lowest: np.float32
    highest: np.float32
    factor: float


@cache
def trellis_tables(t: WeightType) -> TrellisTables:
    code = trellis_code(t.bits)
    return TrellisTables(
        code.code_bits,
        code.memory,
        code.has_free_bit,
        chain_order(t.width, code.code_bits),
        np.ascontiguousarray(np.broadcast_to(code.levels, (2, code.levels.shape[1]))),
        levels_by_state(code).astype(np.int16) * np.int16(2),
        np.float32(int(code.levels.min()) - TRELLIS_MARGIN),
        np.float32(int(code.levels.max()) + TRELLIS_MARGIN),
        code.factor,
    )


@_inline
def levels_of_trellis_block(planes, tables, v):  # type: ignore[no-untyped-def]
    """Levels int32 (w,) of a packed block."""
    width = v.shape[0]
    plane_bytes = tables.code_bits * width // 8
    code_mask = (1 << tables.code_bits) - 1
    window_mask = (1 << (tables.code_bits * (tables.memory + 1))) - 1
    window = 0
    for step in range(width):
        i = tables.order[step]
        code = planes[i % plane_bytes] >> (tables.code_bits * (i // plane_bytes)) & code_mask
        window = (window << tables.code_bits | code) & window_mask
        free = 0
        if tables.has_free_bit:
            free = planes[plane_bytes + i % (width // 8)] >> (i // (width // 8)) & 1
        v[i] = tables.levels[free, window]


@_inline
def pack_chain(codes, tables, planes):  # type: ignore[no-untyped-def]
    """Codes uint8 (w,) in the order of the chain, free bits above the others, into the planes of a block."""
    width = codes.shape[0]
    plane_bytes = tables.code_bits * width // 8
    code_mask = (1 << tables.code_bits) - 1
    planes[:] = 0
    for step in range(width):
        i = tables.order[step]
        planes[i % plane_bytes] |= (codes[step] & code_mask) << (tables.code_bits * (i // plane_bytes))
        if tables.has_free_bit:
            planes[plane_bytes + i % (width // 8)] |= (codes[step] >> tables.code_bits) << (i // (width // 8))


@numba.njit(cache=True, nogil=True, inline="always")
def _squared_miss(target, doubled, other):  # type: ignore[no-untyped-def]
    """How far the nearer of two levels is from the target."""
    miss = min(max(np.int16(target - doubled), _LEAST_MISS), _LARGEST_MISS)
    square = np.int16(miss * miss)
    miss = min(max(np.int16(target - other), _LEAST_MISS), _LARGEST_MISS)
    return min(square, np.int16(miss * miss))


@_inline
def cheapest_path(targets, doubled, work, codes):  # type: ignore[no-untyped-def]
    """Targets int16 (w,) in half levels, in the order of the chain, to codes (w,); eoq_formats.viterbi says how.

    Every number is cast to int16, which all of them fit: vectors of them are twice as long. `work` is
    make_trellis_work's.
    """
    width = targets.shape[0]
    free, radix, _, newer = doubled.shape
    cost, by_oldest, best, oldest, came_from = work
    cost[:] = _LARGEST_COST
    cost[0] = 0
    for step in range(width):
        target = targets[step]
        for q in range(newer):
            for o in range(radix):
                by_oldest[o, q] = cost[q * radix + o]
        least = np.int16(32767)
        for c in range(radix):
            for o in range(radix):
                levels, so_far = doubled[0, o, c], by_oldest[o]
                others = doubled[free - 1, o, c]
                if o == 0:
                    for q in range(newer):
                        best[q] = np.int16(so_far[q] + _squared_miss(target, levels[q], others[q]))
                        oldest[q] = np.int16(0)
                else:
                    for q in range(newer):
                        total = np.int16(so_far[q] + _squared_miss(target, levels[q], others[q]))
                        oldest[q] = np.int16(o) if total < best[q] else oldest[q]
                        best[q] = min(total, best[q])
            for q in range(newer):
                cost[c * newer + q] = best[q]
                came_from[step, c * newer + q] = np.uint8(oldest[q])
                least = min(least, best[q])
        for s in range(radix * newer):
            cost[s] = min(np.int16(cost[s] - least), _LARGEST_COST)
    state = 0
    for s in range(1, radix * newer):
        if cost[s] < cost[state]:
            state = s
    for step in range(width - 1, -1, -1):
        codes[step] = state // newer
        state = state % newer * radix + came_from[step, state]


@_inline
def set_free_bits(targets, tables, codes):  # type: ignore[no-untyped-def]
    """Add to codes (w,) the bit that chooses the nearer of the two levels of each step, 0 where both are as near."""
    window, mask = 0, tables.levels.shape[1] - 1
    for step in range(targets.shape[0]):
        window = (window << tables.code_bits | codes[step]) & mask
        near = abs(np.int32(targets[step]) - 2 * np.int32(tables.levels[0, window]))
        far = abs(np.int32(targets[step]) - 2 * np.int32(tables.levels[1, window]))
        codes[step] |= np.uint8(far < near) << tables.code_bits


@_inline
def make_trellis_work(width, states, radix):  # type: ignore[no-untyped-def]
    """Work space of cheapest_path, one for each thread."""
    newer = states // radix
    return (
        np.empty(states, dtype=np.int16),
        np.empty((radix, newer), dtype=np.int16),
        np.empty(newer, dtype=np.int16),
        np.empty(newer, dtype=np.int16),
        np.empty((width, states), dtype=np.uint8),
    )


@_inline
def quantize_trellis_block(x, sign, tables, work, v, scratch, targets, codes, out):  # type: ignore[no-untyped-def]
    """Quantise one block x into the bytes `out`. Returns status, energy and squared error of the block."""
    width = x.shape[0]
    finite = True
    for i in range(width):
        finite &= np.isfinite(x[i])
        v[i] = min(max(x[i], -INPUT_LIMIT), INPUT_LIMIT) * sign[i]
    out[:] = 0
    if not finite:
        out[1] = 0x7E  # a scale of NaN, so that every check of the row finds it
        return STATUS_NON_FINITE, 0.0, 0.0
    transform(v)
    for i in range(width):
        scratch[i] = np.float64(v[i]) * np.float64(v[i])
    energy = sum_by_halves(scratch)
    to_rotated = width * LEVEL_UNIT
    d = fp16_bits(math.sqrt(energy / width) / tables.factor / to_rotated)
    if d == 0:
        return STATUS_OK, energy / width, energy / width
    inverse = np.float32(1) / (fp16_value(d) * np.float32(to_rotated))
    for step in range(width):
        r = v[tables.order[step]] * inverse
        targets[step] = np.int16(np.rint(min(max(r, tables.lowest), tables.highest) * np.float32(2)))
    cheapest_path(targets, tables.doubled, work, codes)
    if tables.has_free_bit:
        set_free_bits(targets, tables, codes)
    pack_chain(codes, tables, out[2:])

    levels = np.empty(width, dtype=np.int32)
    levels_of_trellis_block(out[2:], tables, levels)
    squares = np.int32(0)
    for i in range(width):
        squares += levels[i] * levels[i]
        scratch[i] = np.float64(v[i]) * np.float64(levels[i])
    along = sum_by_halves(scratch)
    if squares > 0 and along > 0:
        d = fp16_bits(along / np.float64(squares) / to_rotated)
        if d == 0:
            out[:] = 0
            return STATUS_OK, energy / width, energy / width
    unit = fp16_value(d) * np.float32(to_rotated)
    for i in range(width):
        difference = np.float64(v[i]) - np.float64(np.float32(levels[i]) * unit)
        scratch[i] = difference * difference
    out[0] = d & 0xFF
    out[1] = d >> 8
    status = STATUS_SCALE_OVERFLOW if d == 0x7BFF else STATUS_OK
    return status, energy / width, sum_by_halves(scratch) / width
