"""Plans as text for people."""

from collections import Counter
from collections.abc import Sequence

from converter.plan.ewq import Block, Decisions
from converter.plan.memory import PlannedFile
from converter.tensor_types import type_name

_NAME_WIDTH = 32


def tensor_lines(planned: PlannedFile) -> list[str]:
    """A line for each tensor: name, type, bits a weight, bytes, and why."""
    lines = [f"{'tensor':<{_NAME_WIDTH}} {'type':>8} {'bpw':>6} {'kB':>10}  why"]
    for t in planned.plan.tensors:
        lines.append(
            f"{t.tensor.name:<{_NAME_WIDTH}} {type_name(t.type):>8} {t.bits_per_weight:6.3f} "
            f"{t.nbytes / 1000:>10,.1f}  {t.why}"
        )
    return lines


def size_lines(planned: PlannedFile, context: int) -> list[str]:
    """Types, size of the file, and memory for a context of so many tokens."""
    plan = planned.plan
    weights: Counter[str] = Counter()
    for t in plan.tensors:
        weights[type_name(t.type)] += t.tensor.weights
    shares = ", ".join(f"{name} {100 * count / plan.weights:.1f} %" for name, count in weights.most_common())
    lines = [
        f"weights: {shares}",
        f"file: {planned.file_bytes / 1e6:,.1f} MB, {plan.bits_per_weight:.3f} bits a weight",
    ]
    memory = planned.memory(context)
    if memory is None:
        lines.append(f"memory: {plan.nbytes / 1e6:,.1f} MB for the weights; the cache of this architecture is unknown")
    else:
        cache = memory - plan.nbytes - planned.compute_bytes
        lines.append(
            f"memory: {memory / 1e6:,.1f} MB, {cache / 1e6:,.1f} of which are the F16 cache of {context} tokens, and "
            f"{planned.compute_bytes / 1e6:,.1f} buffers for computing"
        )
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
