"""One block of a trellis type at a time, compiled by numba. `eoq_formats.kernels` runs these over rows."""

import math
from functools import cache
from typing import NamedTuple

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
from eoq_formats.compiled import njit
from eoq_formats.reference import INPUT_LIMIT, LEVEL_UNIT, TRELLIS_MARGIN
from eoq_formats.trellis import TrellisCode, chain_order, parities, trellis_code
from eoq_formats.types import WeightType
from eoq_formats.viterbi import LARGEST_COST, LARGEST_MISS, levels_by_state

_inline = njit(inline="never", nogil=True)
_LARGEST_COST = np.int16(LARGEST_COST)
_FAR = np.int32(1 << 30)
_LARGEST_MISS, _LEAST_MISS = np.int16(LARGEST_MISS), np.int16(-LARGEST_MISS)


class TrellisSteps(NamedTuple):
    """What a step of the trellis comes to, in half levels, int16: by the free bit, where there is one, and …"""

    by_state: NDArray[np.int16]
    """(1 or 2, oldest code, newest code, newer states)"""
    by_number: NDArray[np.int16]
    """(1 or 2, 256): with codes of 4 bits, by 16 times the number of the older codes' part plus the newest code."""
    older: NDArray[np.int64]
    """(16,): with codes of 4 bits, what is XORed with the oldest code to that number, by the code between."""


def trellis_steps(doubled: NDArray[np.int16], code: TrellisCode) -> TrellisSteps:
    """Steps of half levels int16 (1 or 2, windows) and the code's masks."""
    by_state = levels_by_state(doubled, code)
    if code.code_bits == 2:
        return TrellisSteps(by_state, np.zeros((1, 256), dtype=np.int16), np.zeros(16, dtype=np.int64))
    # where the code between is zero, the number is the oldest code
    windows = np.arange(16)[:, None] << 8 | np.arange(16)
    by_number = np.ascontiguousarray(doubled[:, windows.reshape(-1)])
    return TrellisSteps(by_state, by_number, parities(np.arange(16), code.masks))


class TrellisTables(NamedTuple):
    """Constants of a trellis type as the kernels take them."""

    code_bits: int
    memory: int
    has_free_bit: bool
    order: NDArray[np.intp]
    levels: NDArray[np.int8]
    """int8 (2, windows): by free bit and window; the same twice where there is no free bit."""
    by_state: NDArray[np.int16]
    by_number: NDArray[np.int16]
    older: NDArray[np.int64]
    """As in TrellisSteps."""
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
        *trellis_steps(code.levels.astype(np.int16) * np.int16(2), code),
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


@njit(nogil=True, inline="always")
def _step_cost(target, doubled, other):  # type: ignore[no-untyped-def]
    """How far the nearer of two levels is from the target, squared."""
    miss = min(max(np.int16(target - doubled), _LEAST_MISS), _LARGEST_MISS)
    square = np.int16(miss * miss)
    miss = min(max(np.int16(target - other), _LEAST_MISS), _LARGEST_MISS)
    return min(square, np.int16(miss * miss))


@_inline
def _advance_2(target, by_state, before, to, scratch):  # type: ignore[no-untyped-def]
    """Costs (256,) of all states after a step of codes of 2 bits."""
    other = by_state.shape[0] - 1
    by_oldest, by_newest = scratch.reshape((4, 64)), to.reshape((4, 64))
    for q in range(64):
        for o in range(4):
            by_oldest[o, q] = before[4 * q + o]
    for c in range(4):
        best = by_newest[c]
        for o in range(4):
            levels, others, so_far = by_state[0, o, c], by_state[other, o, c], by_oldest[o]
            if o == 0:
                for q in range(64):
                    best[q] = np.int16(so_far[q] + _step_cost(target, levels[q], others[q]))
            else:
                for q in range(64):
                    total = np.int16(so_far[q] + _step_cost(target, levels[q], others[q]))
                    best[q] = min(total, best[q])


@_inline
def _advance_4(target, by_number, older, before, to, scratch, so_far):  # type: ignore[no-untyped-def]
    """Costs (256,) after a step of codes of 4 bits, which stand by the older code of a state first.

    Of its 4096 steps each costs what one of 256 does, those of a code and of what the two before contribute.
    """
    other = by_number.shape[0] - 1
    for i in range(256):
        scratch[i] = _step_cost(target, by_number[0, i], by_number[other, i])
    for last in range(16):
        for h in range(16):
            so_far[h] = before[(h ^ older[last]) * 16 + last]
        for c in range(16):
            best = np.int16(32767)
            for h in range(16):
                best = min(best, np.int16(so_far[h] + scratch[h * 16 + c]))
            to[last * 16 + c] = best


@_inline
def _set_above_least(costs):  # type: ignore[no-untyped-def]
    least = np.int16(32767)
    for s in range(256):
        least = min(least, costs[s])
    for s in range(256):
        costs[s] = min(np.int16(costs[s] - least), _LARGEST_COST)


@_inline
def _place(state, radix):  # type: ignore[no-untyped-def]
    """Where the costs of a step have a state's."""
    return state if radix == 4 else state % 16 * 16 + state // 16


@_inline
def cheapest_path(targets, steps, work, codes):  # type: ignore[no-untyped-def]
    """Targets int16 (w,) in half levels, in the order of the chain, to codes (w,); eoq_formats.viterbi says how.

    Every number is cast to int16, which all of them fit: vectors of them are twice as long. Which code was the oldest
    is looked up where it matters, on the path that is taken in the end. `steps` are TrellisSteps, or TrellisTables with
    the same fields; `work` is make_trellis_work's.
    """
    width = targets.shape[0]
    free, radix, _, newer = steps.by_state.shape
    costs, scratch, so_far = work
    costs[0] = _LARGEST_COST
    costs[0, 0] = 0
    for step in range(width):
        if radix == 4:
            _advance_2(targets[step], steps.by_state, costs[step], costs[step + 1], scratch)
        else:
            _advance_4(targets[step], steps.by_number, steps.older, costs[step], costs[step + 1], scratch, so_far)
        _set_above_least(costs[step + 1])
    state = 0
    for s in range(1, 256):
        if costs[width, _place(s, radix)] < costs[width, _place(state, radix)]:
            state = s
    for step in range(width - 1, -1, -1):
        newest, rest = state // newer, state % newer
        least, oldest = _FAR, 0
        for o in range(radix):
            level, other = steps.by_state[0, o, newest, rest], steps.by_state[free - 1, o, newest, rest]
            so_far_cost = np.int32(costs[step, _place(rest * radix + o, radix)])
            cost = so_far_cost + np.int32(_step_cost(targets[step], level, other))
            if cost < least:
                least, oldest = cost, o
        codes[step] = newest
        state = rest * radix + oldest


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
def make_trellis_work(width):  # type: ignore[no-untyped-def]
    """Work space of cheapest_path, one for each thread: costs above the least, by steps taken; and of one step."""
    return np.empty((width + 1, 256), dtype=np.int16), np.empty(256, dtype=np.int16), np.empty(16, dtype=np.int16)


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
    cheapest_path(targets, tables, work, codes)
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
