"""The least total loss within so many bytes: one choice for each tensor."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Choice:
    """A way to store a tensor."""

    nbytes: int
    loss: float


def allocate(tensors: Sequence[Sequence[Choice]], budget: int) -> list[int] | None:
    """The number of the choice for each tensor, so that bytes are at most `budget` and losses add up to little.

    By Lagrangian relaxation: from the smallest choices on, the step that saves most loss for a byte is taken first,
    along the lower convex hull of each tensor's choices. Steps that no longer fit are passed over. What room is left
    then goes to single changes, the best first, until no single change fits. So the total is the least possible for
    the bytes it takes before those last changes, and within one step of the least for the budget.

    None where even the smallest choices take more. Among equal choices the earlier ones win; the result depends on
    nothing but the numbers.
    """
    hulls = [_hull(choices) for choices in tensors]
    chosen = [hull[0] for hull in hulls]
    left = budget - sum(choices[i].nbytes for choices, i in zip(tensors, chosen, strict=True))
    if left < 0:
        return None
    steps = []
    for t, (choices, hull) in enumerate(zip(tensors, hulls, strict=True)):
        for number, (a, b) in enumerate(pairwise(hull)):
            slope = (choices[b].loss - choices[a].loss) / (choices[b].nbytes - choices[a].nbytes)
            steps.append((slope, t, number, b))
    for _, t, number, b in sorted(steps):
        cost = tensors[t][b].nbytes - tensors[t][chosen[t]].nbytes
        # a step goes on from the one before; where that did not fit, neither does this
        if chosen[t] == hulls[t][number] and cost <= left:
            chosen[t] = b
            left -= cost
    _fill(tensors, chosen, left)
    return chosen


def _hull(choices: Sequence[Choice]) -> list[int]:
    """The choices on the lower convex hull of loss over bytes, from the smallest to the one with the least loss."""
    order = sorted(range(len(choices)), key=lambda i: (choices[i].nbytes, choices[i].loss, i))
    hull: list[int] = []
    for i in order:
        if hull and choices[i].loss >= choices[hull[-1]].loss:
            continue
        while len(hull) > 1 and _is_above(choices[hull[-2]], choices[hull[-1]], choices[i]):
            hull.pop()
        hull.append(i)
    return hull


def _is_above(a: Choice, b: Choice, c: Choice) -> bool:
    """Whether b lies on or above the line from a to c."""
    return (b.loss - a.loss) * (c.nbytes - a.nbytes) >= (c.loss - a.loss) * (b.nbytes - a.nbytes)


def _fill(tensors: Sequence[Sequence[Choice]], chosen: list[int], left: int) -> None:
    """Take single changes that fit into the bytes that are left, the one that saves most loss first."""

    def best(t: int) -> tuple[float, int, int] | None:
        now = tensors[t][chosen[t]]
        fitting = [
            (choice.loss - now.loss, t, i)
            for i, choice in enumerate(tensors[t])
            if choice.loss < now.loss and choice.nbytes - now.nbytes <= left
        ]
        return min(fitting, default=None)

    heap = [found for t in range(len(tensors)) if (found := best(t)) is not None]
    heapq.heapify(heap)
    while heap:
        saved, t, i = heapq.heappop(heap)
        now = tensors[t][chosen[t]]
        if tensors[t][i].loss - now.loss == saved and tensors[t][i].nbytes - now.nbytes <= left:
            left -= tensors[t][i].nbytes - now.nbytes
            chosen[t] = i
        if (found := best(t)) is not None:
            heapq.heappush(heap, found)
