"""The search for the codes of one block of one row: per-survivor processing with a beam, compiled by numba.

Everything is in units of the block's scale: values are divided by the unit, costs by its square.

A survivor is a path through the trellis with all its own errors, and hence with its own target for the next column. Of
the paths into a state (the newest codes, eight bits) the cheapest is kept, and of those what is no dearer than the
cheapest plus a threshold. What a survivor's errors push to the next columns stands in its ring of sums; what they push
further is added to the targets of all once the decision is settled, so nothing is left out.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eoq_formats.compiled import njit

STATES = 256
CHUNKS = 8
"""Parts of a ring; the columns of one are settled at a time."""

_OUT = np.float32(1e30)
"""Cost of a survivor that is dropped."""
_NOTHING = np.int32(np.finfo(np.float32).max.view(np.int32))
"""Offer to a state that is not reached."""
_COST = np.int32(-STATES)
"""The bits of an offer that are the cost's."""


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


class Reached(NamedTuple):
    """What the next column makes of survivors extended by each code: the cheapest into each state."""

    offers: NDArray[np.int32]
    """(256,), by state: the bits of the cost as float32, which is never negative, so that the least is the cheapest;
    the lowest eight bits are the survivor's number instead"""
    state: NDArray[np.uint16]
    """(257,): those reached within the threshold, in order"""
    parent: NDArray[np.uint8]
    """(256,): the survivors that these are reached from"""
    window: NDArray[np.uint16]
    """(256,): their newest codes, one more than a state has"""
    paid: NDArray[np.float32]
    """(256,): the costs of their parents"""
    wanted: NDArray[np.float32]
    """(256,): what their levels have to match"""
    error: NDArray[np.float32]
    """(256,): weight less level"""


@njit(nogil=True)
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


@njit(nogil=True)
def make_reached():  # type: ignore[no-untyped-def]
    return Reached(
        np.empty(STATES, dtype=np.int32),
        np.empty(STATES + 1, dtype=np.uint16),
        np.empty(STATES, dtype=np.uint8),
        np.empty(STATES, dtype=np.uint16),
        np.empty(STATES, dtype=np.float32),
        np.empty(STATES, dtype=np.float32),
        np.empty(STATES, dtype=np.float32),
    )


@njit(nogil=True)
def make_rings(factor, ring):  # type: ignore[no-untyped-def]
    """(w, ring): what column j pushes to the `ring` columns after it, at their places in the ring."""
    width = factor.shape[0]
    rings = np.zeros((width, ring), dtype=np.float32)
    for j in range(width):
        for i in range(j + 1, min(j + ring + 1, width)):
            rings[j, i % ring] = factor[j, i]
    return rings


@njit(nogil=True)
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
    reached,
    codes,
):
    """Choose codes uint8 (w,) and return their cost; infinite, without codes, where it gives up.

    shared (w,) holds the desired values and is used up; own (w,) is what errors are measured against. It gives up where
    the cost up to a column reaches bounds float64 (w,); totals (w,) become the costs up to each column. `levels`
    float32 (1 or 2, windows) are by free bit, where there is one, and window.
    """
    # plain arrays: tuples of them are counted at every use
    sums, cost, value, state, path, back = survivors
    offers, within, parent, window, paid, wanted, error = reached
    low, high = levels[0], levels[levels.shape[0] - 1]
    width, ring = rings.shape
    chunk = ring // CHUNKS
    now, count, settled, history = 0, 1, 0, 0
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
        offers[:] = _NOTHING
        _extend(now, count, pivots[j], code_bits, low, high, cost, value, state, offers)
        cheapest = _least(offers)
        total += np.float64(cheapest)
        totals[j] = total
        if not total < bounds[j]:  # also where it is no number
            return np.inf
        if threshold == np.inf and count << code_bits > beam:
            threshold = np.partition(offers.view(np.float32), beam)[beam] - cheapest
        count = _select(offers, np.float32(min(cheapest + threshold, _OUT)).view(np.int32), within)
        if count == 0:  # all costs are beyond what is dropped: there would be no path to trace
            return np.inf
        for n in range(count):
            s = within[n]
            of = np.uint8(offers[s] & 255)
            parent[n] = of
            window[n] = np.uint16(state[now, of]) << np.uint16(code_bits) | s & mask
            paid[n] = cost[now, of]
            wanted[n] = value[now, of]
            path[then, n] = path[now, of]
            state[then, n] = s
        # no branches: a free bit has even odds
        for n in range(count):
            place = np.uint64(window[n])
            first, second = low[place], high[place]
            d1, d2 = abs(wanted[n] - first), abs(wanted[n] - second)
            free = d2 < d1
            missed = min(d1, d2)
            error[n] = own[j] - (second if free else first)
            cost[then, n] = paid[n] + pivots[j] * (missed * missed) - cheapest
            code = window[n] & mask | np.uint16(free) << np.uint16(code_bits)
            back[slot, n] = np.uint16(parent[n]) | code << np.uint16(8)
        _push(now, count, parent, error, j, rings, sums)
        now = then
        if threshold != np.inf:
            missing = np.float32(beam - count) / np.float32(beam)
            threshold *= min(max(np.float32(1) + np.float32(0.5) * missing, np.float32(0.7)), np.float32(1.25))
        done = j + 1
        if done % chunk == 0 and done < width:
            if done >= ring:
                history = _settle(
                    settled, now, count, shared, own, factor, levels, code_bits, history, cost, path, back, codes
                )
                settled += chunk
            for i in range(count):
                path[now, i] = path[now, i] << np.uint64(8) | np.uint64(i)
    last = _cheapest(now, count, cost)
    total += np.float64(cost[now, last])
    totals[width - 1] = total
    if not total < bounds[width - 1]:
        return np.inf
    _trace(last, settled, width, back, codes)
    return total


@njit(nogil=True, inline="always")
def _aim(now, count, shared, slot, sums, value):  # type: ignore[no-untyped-def]
    """What each survivor's next level has to match, in the column of this slot."""
    for i in range(count):
        value[now, i] = shared + sums[now, i, slot]
        sums[now, i, slot] = 0


@njit(nogil=True, inline="always")
def _extend(now, count, pivot, code_bits, low, high, cost, value, state, offers):  # type: ignore[no-untyped-def]
    """Extend each survivor by each code."""
    codes = 1 << code_bits
    for i in range(count):
        paid, wanted, number = cost[now, i], value[now, i], np.int32(i)
        first = np.uint64(state[now, i]) << np.uint64(code_bits)
        into = first & np.uint64(STATES - 1)
        for c in range(np.uint64(codes)):
            missed = min(abs(wanted - low[first + c]), abs(wanted - high[first + c]))
            offer = np.float32(paid + pivot * (missed * missed)).view(np.int32) & _COST | number
            offers[into + c] = min(np.int32(offer), offers[into + c])


@njit(nogil=True, inline="always")
def _least(offers):  # type: ignore[no-untyped-def]
    least = offers[0]
    for s in range(STATES):
        least = min(least, offers[s])
    return np.int32(least & _COST).view(np.float32)


@njit(nogil=True, inline="always")
def _select(offers, limit, within):  # type: ignore[no-untyped-def]
    """The states up to the limit; returns how many."""
    found = 0
    for s in range(STATES):
        within[found] = s
        found += offers[s] <= limit
    return found


@njit(nogil=True)
def _push(now, count, parent, error, j, rings, sums):  # type: ignore[no-untyped-def]
    """The sums of the new survivors: those of their parents, and what their errors in column j push."""
    ring = rings.shape[1]
    then = 1 - now
    for n in range(count):
        missed, i = error[n], parent[n]
        for h in range(ring):
            sums[then, n, h] = sums[now, i, h] + missed * rings[j, h]


@njit(nogil=True)
def _cheapest(now, count, cost):  # type: ignore[no-untyped-def]
    best = 0
    for i in range(count):
        if cost[now, i] < cost[now, best]:
            best = i
    return best


@njit(nogil=True)
def _settle(first, now, count, shared, own, factor, levels, code_bits, window, cost, path, back, codes):  # type: ignore[no-untyped-def]
    """Settle one chunk of columns as the cheapest survivor has them, and drop all that have come another way.

    Returns the window of codes after them.
    """
    ring = back.shape[0]
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
        # from zero: indexes that might be negative are not vectorised
        rest, pushed = shared[j + ring + 1 :], factor[j, j + ring + 1 :]
        for i in range(rest.shape[0]):
            rest[i] += error * pushed[i]
    return window


@njit(nogil=True)
def _trace(survivor, first, end, back, codes):  # type: ignore[no-untyped-def]
    """Read the codes of columns `first` to `end` off, from the survivor after the last of them."""
    for j in range(end - 1, first - 1, -1):
        step = back[j % back.shape[0], survivor]
        codes[j] = np.uint8(step >> 8)
        survivor = np.int64(step & 255)
