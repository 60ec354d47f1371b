"""Entropy-Weighted Quantization: precision by the entropy of a block's weights (sections 3.2 to 3.4 of the paper)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import fsum, isfinite, sqrt

from converter.errors import OptionError
from converter.plan.blocks import blocks_of
from converter.plan.planners.softmax_entropy import EPSILON, matrix_entropy, weighted_mean
from converter.plan.precision_levels import RAW, STEPS, LevelTable, Precisions
from converter.plan.proposals import Proposal, Proposals
from gguf_files.source import Source

VARIANTS = {
    "8bit": ("8bit", "8bit", RAW),
    "4bit/8bit": ("4bit", "8bit", RAW),
    "3bit/4bit": ("3bit", "4bit", "4bit"),
}
"""Levels of blocks up to the threshold, up to the mean, and above it. The last is the paper's for edge devices."""
EDGE_STEPS = {"3bit/4bit": ("4bit", "3bit", "2bit")}
"""In place of STEPS."""


@dataclass(frozen=True)
class Matrix:
    """A weight matrix of a block."""

    name: str
    weights: int
    entropy: float


@dataclass(frozen=True)
class Block:
    """A block with its matrices."""

    name: str
    matrices: tuple[Matrix, ...]

    @property
    def weights(self) -> int:
        return sum(matrix.weights for matrix in self.matrices)

    @property
    def entropy(self) -> float:
        """In nats: the mean of its matrices' by their weights (section 3.2)."""
        return weighted_mean([m.entropy for m in self.matrices], [m.weights for m in self.matrices])


@dataclass(frozen=True)
class Decisions:
    """What follows from the entropies of the blocks (section 3.3)."""

    entropies: tuple[float, ...]
    mean: float
    deviation: float
    """Standard deviation over the blocks, as of a whole population."""
    threshold: float
    """mean - X * deviation."""
    levels: tuple[str, ...]
    """Level of each block."""
    order: tuple[int, ...]
    """Blocks by ascending entropy, the first to be quantised first; equal ones in the model's order."""


def decide(entropies: Sequence[float], x: float = 1.0, variant: str = "4bit/8bit") -> Decisions:
    """Raises OptionError for an unknown variant or an `x` that is not finite, ValueError without entropies."""
    if variant not in VARIANTS:
        raise OptionError(f"there is no EWQ variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    if not isfinite(x):
        raise OptionError(f"the standard deviations from mean to threshold must be a finite number, not {x}")
    if not entropies:
        raise ValueError("there are no blocks to decide on")
    low, middle, high = VARIANTS[variant]
    # the mean of equal numbers may round to another one, which would put all on one side of it
    mean = min(max(fsum(entropies) / len(entropies), min(entropies)), max(entropies))
    deviation = sqrt(fsum((h - mean) ** 2 for h in entropies) / len(entropies))
    threshold = mean - x * deviation
    levels = tuple(low if h <= threshold else middle if h <= mean else high for h in entropies)
    order = tuple(sorted(range(len(entropies)), key=lambda i: entropies[i]))
    return Decisions(tuple(entropies), mean, deviation, threshold, levels, order)


def measure(
    source: Source, epsilon: float = EPSILON, threads: int = 1, done: Callable[[int], None] = lambda weights: None
) -> list[Block]:
    """Entropies of all blocks; `done` hears of the weights looked at. Raises SourceError, OptionError."""
    blocks = []
    for name, tensors in blocks_of(source.tensors, source.architecture).items():
        matrices = []
        for tensor in tensors:
            matrices.append(Matrix(tensor.name, tensor.weights, matrix_entropy(source, tensor, epsilon, threads)))
            done(tensor.weights)
        blocks.append(Block(name, tuple(matrices)))
    if not blocks:
        raise OptionError("the model has no blocks (blk.N) to plan by entropy; use another planner")
    return blocks


def precisions_of(decisions: Decisions, variant: str) -> Precisions:
    """The decisions as what may change on a cluster."""
    return Precisions(EDGE_STEPS.get(variant, STEPS), decisions.levels, decisions.order)


def propose(blocks: Sequence[Block], decisions: Decisions, chosen: Sequence[str], levels: LevelTable) -> Proposals:
    """Levels, those of the decisions or others, as types for the matrices of the blocks."""
    tensors: dict[str, Proposal] = {}
    for block, level, entropy in zip(blocks, chosen, decisions.entropies, strict=True):
        why = f"{level}: entropy {entropy:.12f}, mean {decisions.mean:.12f}, threshold {decisions.threshold:.12f}"
        tensors |= {matrix.name: Proposal(levels[level], why) for matrix in block.matrices}
    return Proposals("ewq", tensors)
