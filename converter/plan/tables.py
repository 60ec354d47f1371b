"""Plans as text for people."""

from collections import Counter
from pathlib import Path

from converter.plan.memory import PlannedFile
from gguf_files.output.splits import SplitLimit, split_paths, split_tensors
from gguf_files.tensor_types import type_name

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


def split_lines(planned: PlannedFile, target: Path, limit: SplitLimit) -> list[str]:
    """A line for each file of an output to `target` in splits."""
    groups = split_tensors(planned.plan.outputs, limit)
    return [
        f"{path.name}: {sum(t.nbytes for t in group) / 1e6:,.1f} MB in {len(group)} tensors"
        for path, group in zip(split_paths(target, len(groups)), groups, strict=True)
    ]


def size_lines(planned: PlannedFile, context: int) -> list[str]:
    """Types, size of the file, and memory for a context of so many tokens."""
    plan = planned.plan
    weights: Counter[str] = Counter()
    for t in plan.tensors:
        weights[type_name(t.type)] += t.tensor.weights
    shares = ", ".join(f"{name} {100 * count / max(1, plan.weights):.1f} %" for name, count in weights.most_common())
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
