"""Types within a budget of bytes, so that the predicted losses add up to the least."""

import re
from collections.abc import Mapping, Sequence

from gguf import GGMLQuantizationType

from converter.errors import OptionError
from converter.plan.budget import Choice, allocate
from converter.plan.kept import weights_to_plan
from converter.plan.levels import LADDER
from converter.plan.losses import Candidate, TensorLoss, candidates
from converter.plan.proposals import Proposal, Proposals
from converter.tensor_types import type_name
from converter.tensors import TensorInfo


def propose_within(
    budget: int,
    tensors: Sequence[TensorInfo],
    architecture: str,
    losses: Mapping[str, TensorLoss],
    fixed: Mapping[str, GGMLQuantizationType] | None = None,
) -> Proposals:
    """Types for all weights but those in `fixed`, so that all tensors together take at most `budget` bytes.

    A tensor without a loss of its own has the usual one. Raises OptionError where even the smallest types take more.
    """
    fixed = fixed or {}
    planned = [t for t in weights_to_plan(tensors, architecture) if t.name not in fixed]
    names = {t.name for t in planned}
    others = [TensorInfo(t.name, t.shape, fixed.get(t.name, t.type)) for t in tensors if t.name not in names]
    taken = sum(t.nbytes for t in others)
    options = [candidates(t) for t in planned]
    choices = [
        [Choice(c.nbytes, _loss(c, t, losses)) for c in found] for t, found in zip(planned, options, strict=True)
    ]
    chosen = allocate(choices, budget - taken)
    if chosen is None:
        least = taken + sum(min(c.nbytes for c in found) for found in choices)
        raise OptionError(
            f"the budget of {budget / 1e6:,.1f} MB for tensors is too small: in the smallest types they take "
            f"{least / 1e6:,.1f} MB"
        )
    total = sum(found[i].loss for found, i in zip(choices, chosen, strict=True))
    proposals = {}
    for t, found, values, i in zip(planned, options, choices, chosen, strict=True):
        share = values[i].loss / total if total else 0.0
        why = f"budget: loss {values[i].loss:.3g}, {100 * share:.2f} % of all"
        proposals[t.name] = Proposal(found[i].choice, why)
    return Proposals("budget", proposals)


def _loss(candidate: Candidate, tensor: TensorInfo, losses: Mapping[str, TensorLoss]) -> float:
    return 0.0 if candidate.choice is None else losses.get(tensor.name, TensorLoss()).of(candidate.type)


def summary_lines(proposals: Proposals, tensors: Sequence[TensorInfo]) -> list[str]:
    """How many tensors of each kind got which type."""
    kinds: dict[str, dict[str, int]] = {}
    for t in tensors:
        if (proposal := proposals(t)) is not None:
            kind = re.sub(r"^.*blk\.\d+\.", "", t.name)
            name = proposal.type.name if proposal.type else type_name(t.type)
            kinds.setdefault(kind, {}).setdefault(name, 0)
            kinds[kind][name] += 1
    order = {name: i for i, name in enumerate(LADDER)}
    lines = []
    for kind, names in kinds.items():
        listed = ", ".join(
            f"{n} {name}" for name, n in sorted(names.items(), key=lambda item: order.get(item[0], len(order)))
        )
        lines.append(f"{kind:<28} {listed}")
    return lines
