"""Precision of each block for the machines of a cluster (section 3.4 of the EWQ paper, Algorithm 1).

As much precision as fits: the blocks of highest entropy are raised while there is room, and where not even 4 bits fit,
those of lowest entropy go to 2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from converter.plan.cluster.placement import Load, Room, Share, place
from converter.plan.precision_levels import Precisions


@dataclass(frozen=True)
class Fitted:
    """Levels that fit on the machines, and where each part goes."""

    levels: tuple[str, ...]
    shares: tuple[Share, ...]
    how: str
    """What was done to make it fit, in a sentence."""


def fit(precisions: Precisions, load_of: Callable[[Sequence[str]], Load], rooms: Sequence[Room]) -> Fitted | None:
    """The most precision that fits, with the fewest hops for that; None: not even the coarsest level fits.

    The start is the first of these that fits: all blocks at the finest level; the levels decided; all at 8 bits, at 4,
    and so on. From there on the block that comes last in the order is raised as far as there is room, then the one
    before it. From the levels decided a block may rise to the finest level, from one level for all by one step.

    A coarser level must not take more room than a finer one; then no other choice of levels from that start gives a
    higher level to a block without taking one from a block of higher entropy.
    """
    blocks = len(precisions.levels)
    finest = precisions.steps[0]
    starts = [((finest,) * blocks, finest, ""), (precisions.levels, finest, "the levels by entropy fit")]
    for finer, coarser in pairwise(precisions.steps):
        starts.append(((coarser,) * blocks, finer, f"the levels by entropy do not fit, all blocks at {coarser} do"))
    for start, highest, how in starts:
        if place(load_of(start), rooms) is not None:
            levels = _raised(start, highest, precisions, load_of, rooms)
            shares = place(load_of(levels), rooms)
            assert shares is not None
            return Fitted(levels, shares, _sentence(how, start, levels, finest))
    return None


def _raised(
    start: Sequence[str],
    highest: str,
    precisions: Precisions,
    load_of: Callable[[Sequence[str]], Load],
    rooms: Sequence[Room],
) -> tuple[str, ...]:
    levels, steps = list(start), precisions.steps
    for block in reversed(precisions.order):
        for level in steps[steps.index(highest) : steps.index(start[block])]:
            raised = [*levels[:block], level, *levels[block + 1 :]]
            if place(load_of(raised), rooms) is not None:
                levels = raised
                break
    return tuple(levels)


def _sentence(how: str, start: Sequence[str], levels: Sequence[str], finest: str) -> str:
    if not how:
        return f"all blocks at {finest} fit"
    raised = sum(a != b for a, b in zip(start, levels, strict=True))
    return f"{how}, and {raised or 'no'} block{'s' * (raised != 1)} of highest entropy could be raised"
