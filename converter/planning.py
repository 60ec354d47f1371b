"""Planning from end to end: an open model and what a user asks for in, proposals out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from converter.calibration_options import CalibrationOptions
from converter.errors import OptionError, StatisticsError
from converter.options import ConversionOptions
from converter.plan import FixedPlanner, Proposal, Proposals, ewq
from converter.plan.budget_planner import propose_within
from converter.plan.kept import weights_to_plan
from converter.plan.levels import LevelTable, Precisions
from converter.plan.losses import TensorLoss, measured_losses, with_sensitivities
from converter.plan.memory import compute_bytes, header_bytes, kv_bytes_per_token
from converter.plan.presets import propose_preset
from converter.plan.softmax_entropy import EPSILON
from converter.progress import Progress
from converter.source import Source
from converter.tensors import TensorInfo

if TYPE_CHECKING:
    from converter.plan.fastewq import BlockShape


@dataclass(frozen=True)
class EwqRequest:
    """Types by the entropy of the weights."""

    variant: str = "4bit/8bit"
    x: float = 1.0
    """Standard deviations from the mean down to the threshold."""
    epsilon: float = EPSILON
    levels: LevelTable = field(default_factory=LevelTable)


@dataclass(frozen=True)
class FastEwqRequest:
    """The same, guessed from the shape of the model alone."""

    variant: str = "8bit"
    four_bit: int = 1
    """Blocks that get 4 bits in the variant `4bit/8bit`, the last of those that are picked."""
    levels: LevelTable = field(default_factory=LevelTable)
    dataset: Path | None = None
    """To learn from; None for the one that comes with EOQ."""


@dataclass(frozen=True)
class PresetRequest:
    """Types by kind of layer and depth."""

    name: str = "uniform"
    base: str = "eoq4"


@dataclass(frozen=True)
class Budget:
    """How much a model may take: one of the three. Raises OptionError."""

    bits_per_weight: float | None = None
    """Over all tensors."""
    file_bytes: int | None = None
    memory_bytes: int | None = None
    """For weights, the cache of `context` tokens, and buffers."""
    context: int = 4096

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.bits_per_weight, self.file_bytes, self.memory_bytes)) != 1:
            raise OptionError(
                "a budget is one of bits a weight (--target-bpw), the size of the file (--target-size) and memory "
                "(--fit-memory); give one of them"
            )

    def for_tensors(self, model: Source) -> int:
        """Bytes for all tensors, padding aside. Raises OptionError."""
        if self.bits_per_weight is not None:
            return int(self.bits_per_weight * sum(t.weights for t in model.tensors) / 8)
        if self.file_bytes is not None:
            return self.file_bytes - header_bytes(model)
        assert self.memory_bytes is not None
        cache = kv_bytes_per_token(model)
        if cache is None:
            raise OptionError(
                f"the cache of {model.architecture} models is not known here, so memory cannot be counted; "
                "give the size of the file in place of the memory"
            )
        return self.memory_bytes - self.context * cache - compute_bytes(model)


@dataclass(frozen=True)
class BudgetRequest:
    """The least predicted loss within a budget."""

    budget: Budget
    statistics: Path | None = None
    """File of statistics, or an imatrix of llama.cpp, to predict errors with."""
    sensitivity: CalibrationOptions | None = None
    """Text and device to measure with what errors do to the logits; None: all tensors count the same."""


Request = EwqRequest | FastEwqRequest | PresetRequest | BudgetRequest


@dataclass(frozen=True)
class BlockLevels:
    """How the precision of whole blocks may be changed for a cluster."""

    blocks: tuple[str, ...]
    """Names, `blk.0`."""
    precisions: Precisions
    propose: Callable[[Sequence[str]], Proposals]
    """From a level for each block."""


@dataclass(frozen=True)
class Planned:
    """Proposals, and for EWQ what led to them."""

    proposals: Proposals
    levels: BlockLevels | None = None
    """None where the planner knows of no blocks."""
    blocks: tuple[ewq.Block, ...] = ()
    decisions: ewq.Decisions | None = None


def make_proposals(
    model: Source, path: Path, request: Request, options: ConversionOptions, progress: Progress
) -> Planned:
    """Plan for the model that the user named by `path`. Types that `options` name are part of it. Raises EoqError."""
    made = _planned(model, path, request, options, progress)
    return replace(made, proposals=with_overrides(made.proposals, model, options))


def with_overrides(proposals: Proposals, model: Source, options: ConversionOptions) -> Proposals:
    """The proposals, with the types that the user fixed."""
    kept = weights_to_plan(model.tensors, model.architecture)
    named = {t.name: o for t in kept if (o := next((o for o in options.overrides if o.matches(t.name)), None))}
    tensors = {name: Proposal(override.type, f"--tensor-type {override.text}") for name, override in named.items()}
    return replace(proposals, tensors={**proposals.tensors, **tensors})


def _planned(model: Source, path: Path, request: Request, options: ConversionOptions, progress: Progress) -> Planned:
    if isinstance(request, BudgetRequest):
        return Planned(_within_budget(model, path, request, options, progress))
    if isinstance(request, PresetRequest):
        return Planned(propose_preset(request.name, request.base, model.tensors, model.architecture))
    if isinstance(request, FastEwqRequest):
        from converter.plan.fastewq import blocks_of_model
        from converter.plan.fastewq.classifier import fast_precisions, propose_fast

        shapes = blocks_of_model(model)
        proposals, guessed = fast_proposals(shapes, request)
        propose = partial(propose_fast, shapes, table=request.levels)
        return Planned(proposals, BlockLevels(tuple(s.name for s in shapes), fast_precisions(guessed), propose))
    ewq.decide([0.0], request.x, request.variant)  # refuses before the work what it would refuse after it
    blocks = ewq.blocks_of(model.tensors, model.architecture)
    progress.stage("entropies", sum(t.weights for tensors in blocks.values() for t in tensors))
    measured = ewq.measure(model, request.epsilon, options.threads, progress.advance)
    decisions = ewq.decide([block.entropy for block in measured], request.x, request.variant)
    propose = partial(ewq.propose, measured, decisions, levels=request.levels)
    names = tuple(block.name for block in measured)
    levels = BlockLevels(names, ewq.precisions_of(decisions, request.variant), propose)
    return Planned(propose(decisions.levels), levels, tuple(measured), decisions)


def fast_proposals(blocks: Sequence["BlockShape"], request: FastEwqRequest) -> tuple[Proposals, list[str]]:
    """FastEWQ's proposals and levels for blocks that may be known from a config.json alone. Raises OptionError."""
    # scikit-learn takes a second to load
    from converter.plan.fastewq import DATASET, FastEwq, read_dataset
    from converter.plan.fastewq.classifier import propose_fast

    classifier = FastEwq(read_dataset(request.dataset or DATASET))
    levels = classifier.levels(blocks, request.variant, request.four_bit)
    return propose_fast(blocks, levels, request.levels), levels


def _within_budget(
    model: Source, path: Path, request: BudgetRequest, options: ConversionOptions, progress: Progress
) -> Proposals:
    budget = request.budget.for_tensors(model)
    fixed = {
        t.tensor.name: t.type
        for t in FixedPlanner(options).plan(model.tensors, model.architecture).tensors
        if any(override.matches(t.tensor.name) for override in options.overrides)
    }
    propose_within(budget, model.tensors, model.architecture, {}, fixed)  # as above
    tensors = [t for t in weights_to_plan(model.tensors, model.architecture) if t.name not in fixed]
    losses = predicted_losses(model, path, request, options, tensors, progress)
    return propose_within(budget, model.tensors, model.architecture, losses, fixed)


def predicted_losses(
    model: Source,
    path: Path,
    request: BudgetRequest,
    options: ConversionOptions,
    tensors: Sequence[TensorInfo],
    progress: Progress,
) -> dict[str, TensorLoss]:
    """By statistics, by the model's gradients, by both, or nothing; the size in the request does not matter here."""
    losses: dict[str, TensorLoss] = {}
    if request.statistics is not None:
        # torch takes seconds to load, which a plan without it does not need
        from converter.statistics import ShrunkStatistics, check_statistics, open_statistics
        from converter.torch_settings import torch_settings

        if not request.statistics.exists():
            raise StatisticsError(f"the statistics {request.statistics} do not exist; make them with stats_eoq.py")
        statistics = open_statistics(request.statistics)
        check_statistics(statistics, model)
        progress.stage("predicting errors", sum(t.weights for t in tensors))
        shrunk = ShrunkStatistics(statistics, options.shrinkage)
        with torch_settings(options.threads):
            losses = measured_losses(model, tensors, shrunk, options.damping, options.threads, done=progress.advance)
    if request.sensitivity is not None:
        from converter.calibrate.sensitivity import measure_sensitivity

        found = measure_sensitivity(model, path, tensors, request.sensitivity, progress)
        losses = with_sensitivities(losses, tensors, found)
    return losses
