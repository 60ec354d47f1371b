"""Types within a budget of bytes: the finest one that all weights can have, and finer ones where that helps most.

No weight gets less than its share. Predicted losses would have it so where a few tokens have nearly all of the inputs'
energy, and the others pay for it: docs/results.md has a plan that was worse than a smaller file of one type.
"""

from collections.abc import Container, Mapping, Sequence

from gguf import GGMLQuantizationType

from converter.errors import BudgetError
from converter.plan.keep_rules import weights_to_plan
from converter.plan.planners.allocation import Choice, allocate
from converter.plan.planners.losses import Candidate, TensorLoss, candidates
from converter.plan.precision_levels import LADDERS
from converter.plan.proposals import Proposal, Proposals
from converter.plan.unmeasured import LEAST_BITS
from converter.type_choice import parse_type
from gguf_files.tensors import TensorInfo


def propose_within(
    budget: int,
    tensors: Sequence[TensorInfo],
    architecture: str,
    losses: Mapping[str, TensorLoss],
    fixed: Mapping[str, GGMLQuantizationType] | None = None,
    ladder: Sequence[str] = LADDERS["scalar"],
    unmeasured: Container[str] = (),
) -> Proposals:
    """Types of the ladder for all weights but those `fixed`, so that all tensors together take at most `budget` bytes.

    The predicted losses add up to the least, no type being coarser than one that would fit throughout, and those of
    `unmeasured` weights having LEAST_BITS. A tensor without a loss of its own has the usual one. Raises BudgetError
    where even the smallest types take more.
    """
    fixed = fixed or {}
    planned = [t for t in weights_to_plan(tensors, architecture) if t.name not in fixed]
    names = {t.name for t in planned}
    others = [TensorInfo(t.name, t.shape, fixed.get(t.name, t.type)) for t in tensors if t.name not in names]
    taken = sum(t.nbytes for t in others)
    options = _above_one_type(planned, ladder, budget - taken, unmeasured)
    choices = [
        [Choice(c.nbytes, _loss(c, t, losses)) for c in found] for t, found in zip(planned, options, strict=True)
    ]
    chosen = allocate(choices, budget - taken)
    if chosen is None:
        least = taken + sum(min(c.nbytes for c in found) for found in choices)
        raise BudgetError(budget, least, taken + sum(t.nbytes for t in planned))
    total = sum(found[i].loss for found, i in zip(choices, chosen, strict=True))
    proposals = {}
    for t, found, values, i in zip(planned, options, choices, chosen, strict=True):
        share = values[i].loss / total if total else 0.0
        why = f"budget: loss {values[i].loss:.3g}, {100 * share:.2f} % of all"
        proposals[t.name] = Proposal(found[i].choice, why)
    return Proposals("budget", proposals)


def _above_one_type(
    planned: Sequence[TensorInfo], ladder: Sequence[str], budget: int, unmeasured: Container[str]
) -> list[list[Candidate]]:
    """The candidates of each tensor from the finest type on that all can have; all of them where even the first is
    too large."""
    floor = sum(_has_few_bits(name) for name in ladder)

    def from_type(start: int) -> list[list[Candidate]]:
        return [candidates(t, ladder[max(start, floor) if t.name in unmeasured else start :]) for t in planned]

    options = from_type(0)
    for start in range(1, len(ladder) + 1):
        finer = from_type(start)
        if sum(min(c.nbytes for c in found) for found in finer) > budget:
            break
        options = finer
    return options


def _has_few_bits(name: str) -> bool:
    eoq = parse_type(name).eoq
    return eoq is not None and eoq.bits < LEAST_BITS


def _loss(candidate: Candidate, tensor: TensorInfo, losses: Mapping[str, TensorLoss]) -> float:
    return 0.0 if candidate.choice is None else losses.get(tensor.name, TensorLoss()).of(candidate.type)
