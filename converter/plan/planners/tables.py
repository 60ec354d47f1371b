"""What planners decided, as text for people."""

from collections.abc import Sequence
from typing import Any

from converter.plan.planners.ewq import Block, Decisions
from converter.plan.precision_levels import LADDERS
from converter.plan.proposals import Proposals
from gguf_files.names import BLOCK
from gguf_files.tensor_types import type_name
from gguf_files.tensors import TensorInfo


def kind_lines(proposals: Proposals, tensors: Sequence[TensorInfo]) -> list[str]:
    """How many tensors of each kind got which type."""
    kinds: dict[str, dict[str, int]] = {}
    for t in tensors:
        if (proposal := proposals(t)) is not None:
            match = BLOCK.fullmatch(t.name)
            kind = match["part"] if match else t.name
            name = proposal.type.name if proposal.type else type_name(t.type)
            kinds.setdefault(kind, {}).setdefault(name, 0)
            kinds[kind][name] += 1
    order = {name: i for ladder in LADDERS.values() for i, name in enumerate(ladder)}
    lines = []
    for kind, names in kinds.items():
        listed = ", ".join(
            f"{n} {name}" for name, n in sorted(names.items(), key=lambda item: order.get(item[0], len(order)))
        )
        lines.append(f"{kind:<28} {listed}")
    return lines


def block_lines(blocks: Sequence[Block], decisions: Decisions, levels: Sequence[str] = ()) -> list[str]:
    """EWQ's blocks in the model's order, with their place in the order of quantising.

    `levels` are those that a cluster gave them in the end.
    """
    place = {index: rank for rank, index in enumerate(decisions.order, 1)}
    lines = [f"{'block':<12} {'weights':>13} {'entropy':>16} {'order':>5}  level"]
    for i, (block, entropy, decided) in enumerate(zip(blocks, decisions.entropies, decisions.levels, strict=True)):
        level = decided if not levels or levels[i] == decided else f"{decided} -> {levels[i]}"
        lines.append(f"{block.name:<12} {block.weights:>13,} {entropy:>16.12f} {place[i]:>5}  {level}")
    lines.append(
        f"mean {decisions.mean:.12f}, standard deviation {decisions.deviation:.4g}, "
        f"threshold {decisions.threshold:.12f}"
    )
    return lines


def ewq_entries(blocks: Sequence[Block], decisions: Decisions) -> dict[str, Any]:
    """EWQ's numbers for the plan file: all, then block by block in the model's order."""
    return {
        "mean": decisions.mean,
        "standard_deviation": decisions.deviation,
        "threshold": decisions.threshold,
        "order": [blocks[i].name for i in decisions.order],
        "blocks": [
            {
                "name": block.name,
                "weights": block.weights,
                "entropy": entropy,
                "decision": level,
                "matrices": {m.name: {"weights": m.weights, "entropy": m.entropy} for m in block.matrices},
            }
            for block, entropy, level in zip(blocks, decisions.entropies, decisions.levels, strict=True)
        ],
    }
