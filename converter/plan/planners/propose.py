"""Planning from end to end: an open model and what a user asks for in, proposals out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from converter.errors import BudgetError, StatisticsError
from converter.options import TypeOptions
from converter.plan.blocks import blocks_of
from converter.plan.keep_rules import weights_to_plan
from converter.plan.planners import ewq
from converter.plan.planners.budget import propose_within
from converter.plan.planners.fastewq.blocks import BlockShape, blocks_of_model
from converter.plan.planners.losses import TensorLoss
from converter.plan.planners.presets import propose_preset
from converter.plan.planners.requests import BudgetRequest, EwqRequest, FastEwqRequest, PresetRequest, Request
from converter.plan.precision_levels import LADDERS, Precisions
from converter.plan.proposals import Proposal, Proposals
from converter.plan.resolve import resolve_plan
from converter.plan.unmeasured import READ_BY_ROW, check_coverage
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress


@dataclass(frozen=True)
class BlockLevels:
    """How the precision of whole blocks may be changed for a cluster."""

    blocks: tuple[str, ...]
    """Names, `blk.0`."""
    precisions: Precisions
    propose: Callable[[Sequence[str]], Proposals]
    """Makes proposals from a level for each block."""


@dataclass(frozen=True)
class Planned:
    """Proposals, and for EWQ what led to them."""

    proposals: Proposals
    levels: BlockLevels | None = None
    """None where the planner knows of no blocks."""
    blocks: tuple[ewq.Block, ...] = ()
    decisions: ewq.Decisions | None = None


def make_proposals(source: Source, request: Request, types: TypeOptions, threads: int, progress: Progress) -> Planned:
    """Plan for an open model.

    What `types` fix by overrides is part of the proposals. Raises EoqError.
    """
    if isinstance(request, BudgetRequest):
        planned = Planned(_within_budget(source, request, types, threads, progress))
    elif isinstance(request, PresetRequest):
        planned = Planned(propose_preset(request.name, request.base, source.tensors, source.architecture))
    elif isinstance(request, FastEwqRequest):
        planned = _by_shape(source, request)
    else:
        planned = _by_entropy(source, request, threads, progress)
    return replace(planned, proposals=with_overrides(planned.proposals, source, types))


def with_overrides(proposals: Proposals, source: Source, types: TypeOptions) -> Proposals:
    """The proposals, with the types that the user fixed."""
    tensors = dict(proposals.tensors)
    for t in weights_to_plan(source.tensors, source.architecture):
        if (override := types.override_of(t.name)) is not None:
            tensors[t.name] = Proposal(override.type, f"--tensor-type {override.text}")
    return replace(proposals, tensors=tensors)


def _by_entropy(source: Source, request: EwqRequest, threads: int, progress: Progress) -> Planned:
    ewq.decide([0.0], request.x, request.variant)  # refuses before the work what it would refuse after it
    blocks = blocks_of(source.tensors, source.architecture)
    progress.stage("entropies", sum(t.weights for tensors in blocks.values() for t in tensors))
    measured = ewq.measure(source, request.epsilon, threads, progress.advance)
    decisions = ewq.decide([block.entropy for block in measured], request.x, request.variant)
    propose = partial(ewq.propose, measured, decisions, levels=request.levels)
    names = tuple(block.name for block in measured)
    levels = BlockLevels(names, ewq.precisions_of(decisions, request.variant), propose)
    return Planned(propose(decisions.levels), levels, tuple(measured), decisions)


def _by_shape(source: Source, request: FastEwqRequest) -> Planned:
    from converter.plan.planners.fastewq.classifier import fast_precisions, propose_fast

    shapes = blocks_of_model(source)
    proposals, guessed = propose_by_shape(shapes, request)
    propose = partial(propose_fast, shapes, table=request.levels)
    return Planned(proposals, BlockLevels(tuple(s.name for s in shapes), fast_precisions(guessed), propose))


def propose_by_shape(blocks: Sequence[BlockShape], request: FastEwqRequest) -> tuple[Proposals, list[str]]:
    """FastEWQ's proposals and levels for blocks that may be known from a config.json alone. Raises OptionError."""
    # scikit-learn takes a second to load
    from converter.plan.planners.fastewq.classifier import FastEwq, propose_fast
    from converter.plan.planners.fastewq.dataset import DATASET, read_dataset

    classifier = FastEwq(read_dataset(request.dataset or DATASET))
    levels = classifier.levels(blocks, request.variant, request.four_bit)
    return propose_fast(blocks, levels, request.levels), levels


def _within_budget(
    source: Source, request: BudgetRequest, types: TypeOptions, threads: int, progress: Progress
) -> Proposals:
    budget, ladder = request.budget.for_tensors(source), LADDERS[request.codes]
    plan = resolve_plan(source.tensors, source.architecture, types)
    fixed = {t.tensor.name: t.type for t in plan.tensors if t.is_fixed}
    tensors = [t for t in weights_to_plan(source.tensors, source.architecture) if t.name not in fixed]
    try:
        # refuses a budget that is too small before losses are predicted
        usual = propose_within(budget, source.tensors, source.architecture, {}, fixed, ladder)
        if request.statistics is None:
            return usual
        losses = predicted_losses(source, request, tensors, threads, progress)
        unmeasured = {t.name for t in tensors if t.name not in losses and t.name not in READ_BY_ROW}
        return propose_within(budget, source.tensors, source.architecture, losses, fixed, ladder, unmeasured)
    except BudgetError as error:
        raise request.budget.refusal(source, error) from None


def predicted_losses(
    source: Source,
    request: BudgetRequest,
    tensors: Sequence[TensorInfo],
    threads: int,
    progress: Progress,
) -> dict[str, TensorLoss]:
    """By statistics, where there are any; the size in the request does not matter here."""
    losses: dict[str, TensorLoss] = {}
    if request.statistics is not None:
        # torch takes seconds to load, which a plan without it does not need
        from converter.plan.planners.predicted_error import measured_losses
        from converter.statistics import ShrunkStatistics, check_statistics, open_statistics
        from converter.torch_settings import torch_settings

        if not request.statistics.exists():
            raise StatisticsError(f"the statistics {request.statistics} do not exist; make them with eoq stats collect")
        statistics = check_statistics(open_statistics(request.statistics), source)
        if not request.allow_partial_statistics:
            check_coverage(tensors, statistics)
        progress.stage("predicting errors", sum(t.weights for t in tensors))
        shrunk = ShrunkStatistics(statistics, request.rounding.shrinkage)
        with torch_settings(threads):
            losses = measured_losses(source, tensors, shrunk, request.rounding.damping, threads, progress.advance)
    return losses
