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
    along the lower convex hull of each tensor's choices, which is optimal for the bytes taken so far. From the first
    step that does not fit on there are two ways: to pass such steps over and go on, or to stop. Then what room is left
    goes to single changes, the one that saves most loss first, until none fits. The better way is taken.

    None where even the smallest choices take more. The result depends on nothing but the numbers.
    """
    hulls = [_hull(choices) for choices in tensors]
    least = sum(choices[hull[0]].nbytes for choices, hull in zip(tensors, hulls, strict=True))
    if least > budget:
        return None
    ways = [_along_hulls(tensors, hulls, budget - least, pass_over) for pass_over in (True, False)]
    return min(ways, key=lambda chosen: sum(found[i].loss for found, i in zip(tensors, chosen, strict=True)))


def _along_hulls(
    tensors: Sequence[Sequence[Choice]], hulls: Sequence[Sequence[int]], left: int, pass_over: bool
) -> list[int]:
    chosen = [hull[0] for hull in hulls]
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
        elif not pass_over:
            break
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
