"""Precision of blocks on a cluster: the most that fits, in the order of the entropies."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.errors import OptionError
from converter.plan.cluster.fit import Fitted, fit
from converter.plan.cluster.load import LoadsByLevel
from converter.plan.cluster.machines import Machine, parse_machine, parse_machines
from converter.plan.cluster.placement import Load, Part, Room, place
from converter.plan.precision_levels import Precisions
from tests.unit.converter.plan.cluster.test_placement import all_placements, cost, fits, rooms

STEPS = ("raw", "8bit", "4bit", "2bit")
BYTES = {"raw": 16, "8bit": 8, "4bit": 4, "2bit": 2}


def loads_of(widths: Sequence[int], working: int = 1) -> LoadsByLevel:
    """Blocks of these widths, and an output that no level changes."""
    loads = {}
    for level, size in BYTES.items():
        parts = (*(Part(f"blk.{i}", size * width, working) for i, width in enumerate(widths)), Part("output", 2))
        loads[level] = Load(parts, 1, 1, 1, file=3 + sum(part.weights for part in parts))
    return LoadsByLevel(loads, tuple(range(len(widths))))


@st.composite
def precisions(draw: st.DrawFn, blocks: int) -> Precisions:
    levels = draw(st.lists(st.sampled_from(STEPS[:3]), min_size=blocks, max_size=blocks))
    return Precisions(STEPS, tuple(levels), tuple(draw(st.permutations(range(blocks)))))


@st.composite
def problems(draw: st.DrawFn) -> tuple[LoadsByLevel, Precisions, list[Room]]:
    widths = draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    found = draw(rooms)
    return loads_of(widths), draw(precisions(len(widths))), [replace(r, memory=3 * r.memory) for r in found]


def rank(levels: Sequence[str], order: Sequence[int]) -> tuple[int, ...]:
    """The higher the better: the level of the block of highest entropy decides first."""
    return tuple(-STEPS.index(levels[block]) for block in reversed(order))


def exhaustive(loads: LoadsByLevel, precisions: Precisions, rooms: list[Room]) -> tuple[str, ...] | None:
    """The best levels of all that may follow from the first start that fits."""
    blocks = len(precisions.levels)
    starts = [
        (("raw",) * blocks, "raw"),
        (precisions.levels, "raw"),
        *(((coarser,) * blocks, finer) for finer, coarser in itertools.pairwise(STEPS)),
    ]
    for start, highest in starts:
        if not all_placements(loads(start), rooms):
            continue
        choices = [STEPS[STEPS.index(highest) : STEPS.index(level) + 1] or (level,) for level in start]
        able = [levels for levels in itertools.product(*choices) if all_placements(loads(levels), rooms)]
        return max(able, key=lambda levels: rank(levels, precisions.order))
    return None


@given(problems())
def test_equals_exhaustive_search(problem: tuple[LoadsByLevel, Precisions, list[Room]]) -> None:
    loads, precisions, rooms = problem
    fitted = fit(precisions, loads, rooms)
    best = exhaustive(loads, precisions, rooms)
    assert (fitted and fitted.levels) == best
    if fitted is not None:
        load = loads(fitted.levels)
        assert fits(load, rooms, fitted.shares)
        assert cost(fitted.shares) == min(map(cost, all_placements(load, rooms)))


@given(
    st.lists(st.integers(1, 10**6), min_size=1, max_size=40).flatmap(
        lambda widths: st.tuples(st.just(widths), precisions(len(widths)))
    ),
    st.lists(st.builds(Room, st.integers(0, 10**8), st.none() | st.integers(0, 10**8)), min_size=1, max_size=5),
)
def test_never_more_than_a_machine_has(model: tuple[list[int], Precisions], rooms: list[Room]) -> None:
    widths, precisions = model
    loads = loads_of(widths)
    fitted = fit(precisions, loads, rooms)
    if fitted is None:
        assert place(loads(["2bit"] * len(widths)), rooms) is None
        return
    assert fits(loads(fitted.levels), rooms, fitted.shares)


def fitted(memory: int) -> Fitted | None:
    """Four blocks of 16, 8, 4 or 2 bytes and 1 more, output 2, first machine 2 and 1."""
    return fit(Precisions(STEPS, ("8bit", "4bit", "raw", "raw"), (1, 0, 3, 2)), loads_of([1] * 4), [Room(memory)])


def test_computed_by_hand() -> None:
    rest = 4 + 2 + 3
    whole = fitted(64 + rest)
    assert whole is not None and whole.levels == ("raw",) * 4 and whole.how == "all blocks at raw fit"
    # 8 + 4 + 16 + 16 decided; 12 more let the better of the two rise to raw, and 4 the other to 8 bits
    some = fitted(44 + 8 + 4 + rest)
    assert some is not None and some.levels == ("raw", "8bit", "raw", "raw")
    assert some.how == "the levels by entropy fit, and 2 blocks of highest entropy could be raised"
    less = fitted(32 + 8 + rest)
    assert less is not None and less.levels == ("8bit", "8bit", "raw", "8bit")
    two_bits = fitted(8 + 4 + rest)
    assert two_bits is not None and two_bits.levels == ("2bit", "2bit", "4bit", "4bit")
    assert fitted(8 + rest - 1) is None


def test_a_level_that_is_no_smaller_is_refused() -> None:
    loads = loads_of([1])
    swapped = LoadsByLevel({**loads.loads, "4bit": loads.loads["raw"]}, loads.parts)
    loads.check_monotone(STEPS)
    with pytest.raises(OptionError, match=r"blk\.0 takes more at 4bit \(16 bytes\) than at 8bit \(8\)"):
        swapped.check_monotone(STEPS)


def test_machines_are_read() -> None:
    assert parse_machine("192.168.1.20=16GiB,disk=40GB") == Machine("192.168.1.20", 50052, Room(16 << 30, 40 * 10**9))
    named = parse_machine("nas.local:5000 = 8G")
    assert named == Machine("nas.local", 5000, Room(8 * 10**9))
    assert not named.is_numeric and parse_machine("10.0.0.1=1").is_numeric


@pytest.mark.parametrize(
    "text", ["nas", "=8GiB", "nas=", "nas=8GiB,ssd=1GB", "nas=8GiB,disk=1GB,disk=2GB", "nas:0=1GB", "nas:70000=1GB"]
)
def test_what_is_no_machine(text: str) -> None:
    with pytest.raises(OptionError, match=r"not understood|is no size"):
        parse_machine(text)


def test_clusters_that_cannot_be() -> None:
    with pytest.raises(OptionError, match=r"two machines have the address nas:50052"):
        parse_machines(["nas=1GB", "nas:50052=2GB"])
    with pytest.raises(OptionError, match="at most 16"):
        parse_machines([f"nas:{port}=1GB" for port in range(1, 18)])
