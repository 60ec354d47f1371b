"""Which machine computes which blocks: as few steps over the network as memory and disks allow.

llama.cpp computes a model's blocks in order, each on one device, so a machine gets a run of consecutive blocks. The
first machine runs the program: it reads the file, looks up embeddings, and samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from eoq_formats.compiled import njit

MAX_MACHINES = 16
"""All sets of machines are looked at: so many take 20 ms."""
_NO_LIMIT = np.iinfo(np.int64).max // 4


@dataclass(frozen=True)
class Room:
    """What a machine has for the model, in bytes."""

    memory: int
    disk: int | None = None
    """None: no limit, and no copy of weights is kept there."""


@dataclass(frozen=True)
class Part:
    """What has to lie on one machine: a block, or the output with its norm."""

    name: str
    weights: int
    """Bytes, on disk and in memory."""
    working: int = 0
    """More bytes of memory: its cache of keys and values, and what only its machine needs for computing."""

    @property
    def memory(self) -> int:
        return self.weights + self.working


@dataclass(frozen=True)
class Load:
    """What a model asks of the machines."""

    parts: tuple[Part, ...]
    """In the order of computation."""
    buffers: int
    """Memory for computing on every machine that has a part."""
    embeddings: int
    """Bytes on the first machine, whether or not it has a part."""
    passing: int
    """Memory for computing there, for the same reason."""
    file: int
    """Disk of the first machine."""

    @property
    def first(self) -> int:
        """Memory of the first machine, before any part."""
        return self.embeddings + self.passing


@dataclass(frozen=True)
class Share:
    """Parts [start, stop) on a machine."""

    machine: int
    start: int
    stop: int


def hops(machines: Sequence[int]) -> int:
    """How often a token's data passes from one machine to another, from the first (0) through these and back to it."""
    route = [0, *machines, 0]
    return sum(a != b for a, b in pairwise(route))


def place(load: Load, rooms: Sequence[Room]) -> tuple[Share, ...] | None:
    """Shares in the order of computation, with the fewest hops, and of these with the fewest machines; None: no room.

    The first of `rooms` is the machine that the program runs on. The result depends on nothing but the numbers.
    Raises ValueError for no machine or more than MAX_MACHINES.
    """
    if not 1 <= len(rooms) <= MAX_MACHINES:
        raise ValueError(f"between 1 and {MAX_MACHINES} machines can be planned for, not {len(rooms)}")
    first = rooms[0]
    if first.memory < load.first or (first.disk is not None and first.disk < load.file):
        return None
    limits = [(room.memory - load.buffers, _NO_LIMIT if room.disk is None else room.disk) for room in rooms]
    # the first machine's disk is counted above: it keeps no other copy than the file
    limits[0] = (first.memory - load.buffers - load.first, _NO_LIMIT)
    line = _Line.of(load.parts, limits)
    end = len(load.parts)
    everyone, others = range(len(rooms)), range(1, len(rooms))
    after_first = line.furthest(0, 0)
    before_first = next(start for start in range(end + 1) if line.furthest(0, start) == end)
    # any set of machines in any order takes a hop more than its number; with the first at either end, a hop less
    routes = [line.route(everyone, 0, end)]
    if (route := line.route(others, after_first, end)) is not None:
        routes.append([(0, after_first), *route])
    if (route := line.route(others, 0, before_first)) is not None:
        routes.append([*route, (0, end)])
    placements = [_shares(route) for route in routes if route is not None]
    return min(placements, key=lambda shares: (hops([s.machine for s in shares]), len(shares)), default=None)


Route = list[tuple[int, int]]
"""Machines in the order of computation, each with the part that it stops before."""


@dataclass(frozen=True)
class _Line:
    """The parts in order, and how much of them each machine can take."""

    sums: NDArray[np.int64]
    """Memory and weights of the first 0, 1, 2, … parts: (2, parts + 1)."""
    limits: NDArray[np.int64]
    """Memory and disk of each machine: (machines, 2)."""

    @classmethod
    def of(cls, parts: Sequence[Part], limits: Sequence[tuple[int, int]]) -> "_Line":
        sizes = np.array([(part.memory, part.weights) for part in parts], np.int64).reshape(-1, 2)
        sums = np.concatenate([np.zeros((1, 2), np.int64), np.cumsum(sizes, axis=0)])
        return cls(np.ascontiguousarray(sums.T), np.array(limits, np.int64))

    def furthest(self, machine: int, start: int) -> int:
        """The part that a machine has to stop before if it takes as many as it can from `start` on."""
        return int(_furthest(self.sums, self.limits[machine], start))

    def route(self, machines: Sequence[int], start: int, end: int) -> Route | None:
        """The fewest of these machines that take the parts from `start` to `end`; None if all of them cannot."""
        reach, last = _reach(self.sums, self.limits[list(machines)], start)
        enough = np.flatnonzero(reach >= end).tolist()
        if not enough:
            return None
        left = min(enough, key=lambda chosen: (chosen.bit_count(), chosen))
        shortest: Route = []
        while left:
            shortest.insert(0, (machines[last[left]], int(reach[left])))
            left ^= 1 << int(last[left])
        return shortest


def _shares(route: Route) -> tuple[Share, ...]:
    """Without machines that were given nothing."""
    starts = [0, *(stop for _, stop in route)]
    return tuple(Share(m, start, stop) for start, (m, stop) in zip(starts, route, strict=False) if stop > start)


@njit()
def _furthest(sums, limits, start):  # type: ignore[no-untyped-def]
    stop = sums.shape[1] - 1
    for i in range(len(limits)):
        stop = min(stop, np.searchsorted(sums[i], sums[i, start] + limits[i], side="right") - 1)
    return max(start, stop)


@njit()
def _reach(sums, limits, start):  # type: ignore[no-untyped-def]
    """How far each set of machines comes in its best order, and which machine is the last in it; sets are bits.

    To come further never hurts the machines after it, so the best order of a set is its best last machine after the
    best order of the rest.
    """
    sets = 1 << len(limits)
    reach = np.full(sets, start)
    last = np.zeros(sets, np.int64)
    for chosen in range(1, sets):
        for machine in range(len(limits)):
            if chosen >> machine & 1:
                stop = _furthest(sums, limits[machine], reach[chosen ^ (1 << machine)])
                if stop >= reach[chosen]:
                    reach[chosen], last[chosen] = stop, machine
    return reach, last
