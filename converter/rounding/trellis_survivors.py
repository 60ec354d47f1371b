"""The search for the codes of one block of one row: per-survivor processing with a beam, compiled by numba.

Everything is in units of the block's scale: values are divided by the unit, costs by its square.

A survivor is a path through the trellis with all its own errors, and hence with its own target for the next column. Of
the paths into a state (the newest codes, eight bits) the cheapest is kept, and of those what is no dearer than the
cheapest plus a threshold. What a survivor's errors push to the next columns stands in its ring of sums; what they push
further is added to the targets of all once the decision is settled, so nothing is left out.
"""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

STATES = 256
CHUNKS = 8
"""Parts of a ring; the columns of one are settled at a time."""

_NOBODY = np.int64(np.iinfo(np.int64).max)
_OUT = np.float32(1e30)
"""Cost of a survivor that is dropped."""


class Survivors(NamedTuple):
    """Those before a column and those after it, by turns."""

    sums: NDArray[np.float32]
    """(2, 256, ring): what their errors push to the next columns"""
    cost: NDArray[np.float32]
    """(2, 256), above that of the cheapest"""
    value: NDArray[np.float32]
    """(2, 256): what their next levels have to match"""
    state: NDArray[np.uint8]
    """(2, 256): the newest codes"""
    path: NDArray[np.uint64]
    """(2, 256): the survivors they come from at the last eight ends of a chunk, the last in the lowest byte"""
    back: NDArray[np.uint16]
    """(ring, 256): parents, and codes times 256, of the survivors after the last columns"""


class Candidates(NamedTuple):
    """Survivors extended by one code; place q is code q % codes of survivor q // codes."""

    cost: NDArray[np.float32]
    """(256 * codes + 1,)"""
    bits: NDArray[np.int32]
    """The same memory: costs are never negative, so their bits are in the same order."""
    kept: NDArray[np.uint16]
    """Places of those within the threshold."""
    reached: NDArray[np.uint8]
    """Their states."""
    winner: NDArray[np.uint16]
    """Which of them are the cheapest into their states."""
    best: NDArray[np.int64]
    """(256,): the cheapest into each state, bits of its cost above its number in `kept`."""
    parent: NDArray[np.uint8]
    """(256,): the winners' survivors"""
    error: NDArray[np.float32]
    """(256,): the winners' errors"""


@numba.njit(cache=True, nogil=True)
def make_survivors(ring):  # type: ignore[no-untyped-def]
    pair = (2, STATES)
    return Survivors(
        np.empty((2, STATES, ring), dtype=np.float32),
        np.empty(pair, dtype=np.float32),
        np.empty(pair, dtype=np.float32),
        np.empty(pair, dtype=np.uint8),
        np.empty(pair, dtype=np.uint64),
        np.empty((ring, STATES), dtype=np.uint16),
    )


@numba.njit(cache=True, nogil=True)
def make_candidates(codes):  # type: ignore[no-untyped-def]
    count = STATES * codes
    cost = np.empty(count + 1, dtype=np.float32)
    return Candidates(
        cost,
        cost.view(np.int32),
        np.empty(count + 1, dtype=np.uint16),
        np.empty(count + 1, dtype=np.uint8),
        np.empty(STATES + 1, dtype=np.uint16),
        np.full(STATES, _NOBODY, dtype=np.int64),
        np.empty(STATES, dtype=np.uint8),
        np.empty(STATES, dtype=np.float32),
    )


@numba.njit(cache=True, nogil=True)
def make_rings(factor, ring):  # type: ignore[no-untyped-def]
    """(w, ring): what column j pushes to the `ring` columns after it, at their places in the ring."""
    width = factor.shape[0]
    rings = np.zeros((width, ring), dtype=np.float32)
    for j in range(width):
        for i in range(j + 1, min(j + ring + 1, width)):
            rings[j, i % ring] = factor[j, i]
    return rings


@numba.njit(cache=True, nogil=True)
def search(  # type: ignore[no-untyped-def]
    shared,
    own,
    factor,
    rings,
    pivots,
    levels,
    code_bits,
    beam,
    bounds,
    totals,
    survivors,
    candidates,
    codes,
):
    """Choose codes uint8 (w,) and return their cost; infinite, without codes, where it gives up.

    shared (w,) holds the desired values and is used up; own (w,) is what errors are measured against. It gives up where
    the cost up to a column reaches bounds float64 (w,); totals (w,) become the costs up to each column. `levels`
    float32 (1 or 2, windows) are by free bit, where there is one, and window.
    """
    # plain arrays: tuples of them are counted at every use
    sums, cost, value, state, path, back = survivors
    tried, bits, kept, reached, winner, best, parent, error = candidates
    width, ring = rings.shape
    chunk = ring // CHUNKS
    now, count, settled, window = 0, 1, 0, 0
    sums[0, 0, :] = 0
    cost[0, 0] = 0
    state[0, 0] = 0
    path[0, 0] = 0
    mask = np.uint16((1 << code_bits) - 1)
    threshold = np.float32(np.inf)
    total = np.float64(0)
    for j in range(width):
        slot, then = j % ring, 1 - now
        _aim(now, count, shared[j], slot, sums, value)
        places = count << code_bits
        cheapest = _try_codes(now, count, pivots[j], code_bits, levels, cost, value, state, tried, bits)
        total += np.float64(cheapest)
        totals[j] = total
        if total >= bounds[j]:
            return np.inf
        if threshold == np.inf and places > beam:
            threshold = np.partition(tried[:places], beam)[beam] - cheapest
        tried[places] = cheapest + threshold
        count = _select(now, places, code_bits, state, bits, kept, reached, winner, best)
        for n in range(count):
            a = winner[n]
            q = kept[a]
            i = q >> np.uint16(code_bits)
            code = q & mask
            place = np.uint32(state[now, i]) << np.uint32(code_bits) | code
            level = levels[0, place]
            if levels.shape[0] == 2 and abs(value[now, i] - levels[1, place]) < abs(value[now, i] - level):
                level = levels[1, place]
                code |= np.uint16(1) << np.uint16(code_bits)
            back[slot, n] = i | code << np.uint16(8)
            parent[n] = i
            error[n] = own[j] - level
            state[then, n] = reached[a]
            cost[then, n] = tried[q] - cheapest
            path[then, n] = path[now, i]
        _push(now, count, parent, error, j, rings, sums)
        now = then
        if threshold != np.inf:
            missing = np.float32(beam - count) / np.float32(beam)
            threshold *= min(max(np.float32(1) + np.float32(0.5) * missing, np.float32(0.7)), np.float32(1.25))
        done = j + 1
        if done % chunk == 0 and done < width:
            if done >= ring:
                window = _settle(
                    settled, now, count, shared, own, factor, levels, code_bits, window, cost, path, back, codes
                )
                settled += chunk
            for i in range(count):
                path[now, i] = path[now, i] << np.uint64(8) | np.uint64(i)
    last = _cheapest(now, count, cost)
    total += np.float64(cost[now, last])
    totals[width - 1] = total
    if total >= bounds[width - 1]:
        return np.inf
    _trace(last, settled, width, back, codes)
    return total


@numba.njit(cache=True, nogil=True, inline="always")
def _aim(now, count, shared, slot, sums, value):  # type: ignore[no-untyped-def]
    """What each survivor's next level has to match, in the column of this slot."""
    for i in range(count):
        value[now, i] = shared + sums[now, i, slot]
        sums[now, i, slot] = 0


@numba.njit(cache=True, nogil=True, inline="always")
def _try_codes(now, count, pivot, code_bits, levels, cost, value, state, tried, bits):  # type: ignore[no-untyped-def]
    """Costs of all candidates; returns the lowest."""
    low, high = levels[0], levels[levels.shape[0] - 1]
    if code_bits == 2:
        # a number of codes that the compiler knows
        for i in range(count):
            paid, wanted, first = cost[now, i], value[now, i], np.uint32(state[now, i]) * np.uint32(4)
            for c in range(4):
                missed = min(abs(wanted - low[first + np.uint32(c)]), abs(wanted - high[first + np.uint32(c)]))
                tried[i * 4 + c] = paid + pivot * (missed * missed)
    else:
        for i in range(count):
            paid, wanted, first = cost[now, i], value[now, i], np.uint32(state[now, i]) * np.uint32(16)
            for c in range(16):
                missed = min(abs(wanted - low[first + np.uint32(c)]), abs(wanted - high[first + np.uint32(c)]))
                tried[i * 16 + c] = paid + pivot * (missed * missed)
    places = count << code_bits
    lowest = bits[0]
    for q in range(places):
        lowest = min(lowest, bits[q])
    bits[places] = lowest
    return tried[places]


@numba.njit(cache=True, nogil=True, inline="always")
def _select(now, places, code_bits, state, bits, kept, reached, winner, best):  # type: ignore[no-untyped-def]
    """Of the candidates up to the limit that stands after them, find the cheapest into each state; returns how many.

    Of equals it is the first.
    """
    limit = bits[places]
    found = 0
    for q in range(places):
        kept[found] = q
        found += bits[q] <= limit
    mask = np.uint16((1 << code_bits) - 1)
    for a in range(found):
        q = kept[a]
        before = state[now, q >> np.uint16(code_bits)]
        into = np.uint8(before << np.uint16(code_bits) | q & mask)
        reached[a] = into
        best[into] = min(best[into], np.int64(bits[q]) << 32 | a)
    count = 0
    for a in range(found):
        winner[count] = a
        count += best[reached[a]] & 0xFFFFFFFF == a
    for a in range(found):
        best[reached[a]] = _NOBODY
    return count


@numba.njit(cache=True, nogil=True)
def _push(now, count, parent, error, j, rings, sums):  # type: ignore[no-untyped-def]
    """The sums of the new survivors: those of their parents, and what their errors in column j push."""
    ring = rings.shape[1]
    then = 1 - now
    for n in range(count):
        missed, i = error[n], parent[n]
        for h in range(ring):
            sums[then, n, h] = sums[now, i, h] + missed * rings[j, h]


@numba.njit(cache=True, nogil=True)
def _cheapest(now, count, cost):  # type: ignore[no-untyped-def]
    best = 0
    for i in range(count):
        if cost[now, i] < cost[now, best]:
            best = i
    return best


@numba.njit(cache=True, nogil=True)
def _settle(first, now, count, shared, own, factor, levels, code_bits, window, cost, path, back, codes):  # type: ignore[no-untyped-def]
    """Settle one chunk of columns as the cheapest survivor has them, and drop all that have come another way.

    Returns the window of codes after them.
    """
    width, ring = own.shape[0], back.shape[0]
    chunk = ring // CHUNKS
    shift = np.uint64(8 * (CHUNKS - 2))
    ancestor = path[now, _cheapest(now, count, cost)] >> shift & np.uint64(255)
    for i in range(count):
        if path[now, i] >> shift & np.uint64(255) != ancestor:
            cost[now, i] = _OUT
    _trace(np.int64(ancestor), first, first + chunk, back, codes)
    codes_of_bits = 1 << code_bits
    for j in range(first, first + chunk):
        code = np.int64(codes[j])
        window = (window << code_bits | code & (codes_of_bits - 1)) & (levels.shape[1] - 1)
        error = own[j] - levels[code >> code_bits, window]
        for i in range(j + ring + 1, width):
            shared[i] += error * factor[j, i]
    return window


@numba.njit(cache=True, nogil=True)
def _trace(survivor, first, end, back, codes):  # type: ignore[no-untyped-def]
    """Read the codes of columns `first` to `end` off, from the survivor after the last of them."""
    for j in range(end - 1, first - 1, -1):
        step = back[j % back.shape[0], survivor]
        codes[j] = np.uint8(step >> 8)
        survivor = np.int64(step & 255)
