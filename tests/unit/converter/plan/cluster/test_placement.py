"""Which machine gets which parts: the fewest hops, never more than a machine has."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.plan.cluster.placement import MAX_MACHINES, Load, Part, Room, Share, hops, place

parts = st.lists(st.builds(Part, st.just("part"), st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=5)
loads = st.builds(Load, parts.map(tuple), st.integers(0, 3), st.integers(0, 4), st.integers(0, 2), st.integers(0, 40))
rooms = st.lists(st.builds(Room, st.integers(0, 30), st.none() | st.integers(0, 30)), min_size=1, max_size=4)


def fits(load: Load, rooms: list[Room], shares: tuple[Share, ...]) -> bool:
    """Whether every machine has room for what it gets, counted part by part."""
    memory = [load.embeddings + load.passing, *[0] * (len(rooms) - 1)]
    disk = [load.file, *[0] * (len(rooms) - 1)]
    for share in shares:
        mine = load.parts[share.start : share.stop]
        memory[share.machine] += load.buffers + sum(part.weights + part.working for part in mine)
        disk[share.machine] += sum(part.weights for part in mine) if share.machine else 0
    return all(memory[m] <= room.memory and (room.disk is None or disk[m] <= room.disk) for m, room in enumerate(rooms))


def all_placements(load: Load, rooms: list[Room]) -> list[tuple[Share, ...]]:
    """Every order of every set of machines, with every cut."""
    end, found = len(load.parts), []
    for count in range(1, min(len(rooms), end) + 1):
        for order in itertools.permutations(range(len(rooms)), count):
            for cuts in itertools.combinations(range(1, end), count - 1):
                bounds = [0, *cuts, end]
                shares = tuple(Share(m, *cut) for m, cut in zip(order, itertools.pairwise(bounds), strict=True))
                if fits(load, rooms, shares):
                    found.append(shares)
    return found


def cost(shares: tuple[Share, ...]) -> tuple[int, int]:
    return hops([share.machine for share in shares]), len(shares)


@given(loads, rooms)
def test_is_as_good_as_the_best_of_all_placements(load: Load, rooms: list[Room]) -> None:
    shares = place(load, rooms)
    best = min(map(cost, all_placements(load, rooms)), default=None)
    assert (shares and cost(shares)) == best


sizes = st.integers(0, 10**12)
large_parts = st.lists(st.builds(Part, st.just("part"), sizes, sizes), min_size=1, max_size=90)
large_loads = st.builds(Load, large_parts.map(tuple), sizes, sizes, sizes, sizes)
large_rooms = st.lists(
    st.builds(Room, st.integers(0, 10**14), st.none() | st.integers(0, 10**14)), min_size=1, max_size=9
)


@given(large_loads, large_rooms)
def test_shares_follow_each_other_and_fit(load: Load, rooms: list[Room]) -> None:
    shares = place(load, rooms)
    if shares is None:
        return
    assert [share.start for share in shares] == [0, *(share.stop for share in shares[:-1])]
    assert shares[-1].stop == len(load.parts)
    assert len({share.machine for share in shares}) == len(shares)
    assert fits(load, rooms, shares)


def test_hops_count_the_way_from_the_first_machine_and_back() -> None:
    assert hops([0]) == 0
    assert hops([1]) == 2
    assert hops([0, 1]) == 2
    assert hops([1, 2]) == 3
    assert hops([1, 0, 2]) == 4


def test_the_first_machine_is_preferred_where_it_is_enough() -> None:
    load = Load((Part("blk.0", 5), Part("output", 5)), buffers=1, embeddings=1, passing=1, file=15)
    assert place(load, [Room(13), Room(100)]) == (Share(0, 0, 2),)
    assert place(load, [Room(12), Room(100)]) == (Share(1, 0, 2),)
    assert place(load, [Room(12), Room(6)]) == (Share(0, 0, 1), Share(1, 1, 2))


def test_the_first_machine_must_hold_embeddings_and_file() -> None:
    load = Load((Part("blk.0", 5),), buffers=0, embeddings=1, passing=1, file=8)
    assert place(load, [Room(1), Room(100)]) is None
    assert place(load, [Room(100, disk=7), Room(100)]) is None
    assert place(load, [Room(2, disk=8), Room(100)]) == (Share(1, 0, 1),)


def test_many_machines_are_planned_for_and_too_many_refused() -> None:
    load = Load(tuple(Part(f"blk.{i}", 10) for i in range(MAX_MACHINES)), buffers=0, embeddings=0, passing=0, file=0)
    shares = place(load, [Room(10)] * MAX_MACHINES)
    assert shares is not None and len(shares) == MAX_MACHINES and shares[0].machine == 0
    with pytest.raises(ValueError, match="not 17"):
        place(load, [Room(10)] * (MAX_MACHINES + 1))
