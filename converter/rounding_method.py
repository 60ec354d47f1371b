"""How a model's weights are rounded: to nearest, or by statistics of their inputs, which are taken here, and scales."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.checkpoint import WorkFolder, statistics_facts
from converter.options import ConversionOptions, RoundingOptions
from converter.plan import Plan, TensorPlan
from converter.plan.unmeasured import check_coverage, coverage, with_bits_for_unmeasured
from converter.report.records import FoldRecord, StageClock
from converter.rounding import RoundedRows, Rounding, RoundToNearest, copy_rows, row_chunks
from converter.rounding.cost import COPY
from converter.scaling.folding import Fold, Folded, FoldedStatistics
from converter.statistics import ShrunkStatistics, Statistics, check_statistics, open_statistics
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats, RowWorkers, SourceWeights, WeightReader
from terminal.progress import Progress

if TYPE_CHECKING:
    from converter.rounding.error_feedback import ErrorFeedback


@dataclass(frozen=True)
class Rounder:
    """All that stands between a tensor's plan and its bytes."""

    source: Source
    weights: WeightReader
    rounding: Rounding
    folded: Folded | None
    """The weights with scales, where there are any."""

    def is_scaled(self, tensor: TensorInfo) -> bool:
        """Whether AWQ scales are folded into the tensor."""
        return self.folded is not None and self.folded.touches(tensor.name)

    def rows(self, plan: TensorPlan) -> Iterator[RoundedRows]:
        """The rows of a tensor as they go into the file. Raises NonFiniteWeightError or ScaleOverflowError."""
        if not plan.is_copy:
            return self.rounding.round(plan, self.weights)
        if self.folded is not None and self.folded.touches(plan.tensor.name):
            return _scaled_copy(plan.tensor, self.folded)
        return copy_rows(plan.tensor, self.source)

    def cost(self, plan: TensorPlan) -> int:
        """About how many nanoseconds each of the tensor's weights takes."""
        return COPY if plan.is_copy else self.rounding.cost(plan)

    def work(self, plan: TensorPlan) -> int:
        """Of the whole tensor, in the same unit; for the time left."""
        return plan.tensor.weights * self.cost(plan)


@dataclass(frozen=True)
class RoundingRecipe:
    """What another process needs, beside the model, to round as this one does."""

    options: RoundingOptions
    statistics: Path | None = None
    """The file; None where everything is rounded to nearest and nothing is scaled."""
    folds: tuple[Fold, ...] = ()

    def rounder(self, source: Source, workers: RowWorkers) -> Rounder:
        """For the model, opened here. Raises StatisticsError."""
        if self.statistics is None:
            return _to_nearest(source, workers)
        measured = check_statistics(open_statistics(self.statistics), source)
        statistics = ShrunkStatistics(measured, self.options.shrinkage)
        return _with_scales(source, workers, statistics, self.folds, self.options)


@dataclass(frozen=True)
class RoundingMethod:
    """How the weights of a model are rounded, and what is to be said of it."""

    plan: Plan
    """The plan that came in, but for weights without statistics."""
    rounder: Rounder
    recipe: RoundingRecipe
    name: str
    """In the file's metadata."""
    statistics: str | None = None
    """What the statistics were taken from; None without any."""
    coverage: float | None = None
    """The share of the quantised weights in blocks that there are statistics of."""
    folds: tuple[FoldRecord, ...] = ()
    notes: tuple[str, ...] = ()


def _to_nearest(source: Source, workers: RowWorkers) -> Rounder:
    return Rounder(source, SourceWeights(source, workers), RoundToNearest(workers), None)


def _with_scales(
    source: Source, workers: RowWorkers, statistics: Statistics, folds: Sequence[Fold], options: RoundingOptions
) -> Rounder:
    folded = Folded(SourceWeights(source, workers), folds)
    rounding: Rounding = RoundToNearest(workers)
    if options.method == "feedback":
        rounding = _feedback(FoldedStatistics(statistics, folded), workers, options)
    return Rounder(source, folded, rounding, folded)


def _feedback(statistics: Statistics, workers: RowWorkers, options: RoundingOptions) -> "ErrorFeedback":
    from converter.rounding.error_feedback import ErrorFeedback, FeedbackOptions

    chosen = FeedbackOptions(options.damping, device=options.device, effort=options.effort)
    return ErrorFeedback(statistics, RoundToNearest(workers), chosen)


def _scaled_copy(tensor: TensorInfo, folded: Folded) -> Iterator[RoundedRows]:
    """The rows of a tensor that keeps its type but is scaled, such as a norm."""
    for start, stop in row_chunks(tensor):
        yield RoundedRows(folded.stored(tensor, start, stop), 0.0, 0.0, "copy")


@contextmanager
def taken_statistics(
    source: Source, work: WorkFolder, plan: Plan, options: ConversionOptions, progress: Progress, clock: StageClock
) -> Iterator[Statistics | None]:
    """Statistics that the options and the plan ask for, as long as the context lives; None where they need none.

    Raises ResumeError, StatisticsError, CalibrationError, NoProgramError or TargetError.
    """
    if not options.rounding.is_calibrated or not plan.eoq_types:
        yield None
        return
    # torch takes seconds to load, which rounding to nearest does not need
    from converter.calibrate.obtain_statistics import obtain_statistics
    from converter.torch_settings import torch_settings

    with ExitStack() as stack:
        with clock.stage("calibrating"):
            measured = stack.enter_context(obtain_statistics(source, options, work.statistics, progress))
            if options.statistics is not None:
                work.pin("statistics", statistics_facts(options.statistics))
        stack.enter_context(torch_settings(options.threads))
        yield measured


def rounding_method(
    source: Source,
    measured: Statistics | None,
    plan: Plan,
    options: ConversionOptions,
    workers: RowWorkers,
    progress: Progress,
    clock: StageClock,
) -> RoundingMethod:
    """To nearest where nothing is `measured`; else by statistics and scales, which are searched here, as the options
    ask for. Raises OptionError or StatisticsError.
    """
    if measured is None:
        rounder = _to_nearest(source, workers)
        return RoundingMethod(plan, rounder, RoundingRecipe(options.rounding), rounder.rounding.method)
    statistics = ShrunkStatistics(measured, options.rounding.shrinkage)
    quantised = [t.tensor for t in plan.tensors if eoq_type(t.type) is not None]
    if not options.allow_partial_statistics:
        check_coverage(quantised, statistics)
    return _calibrated(source, statistics, workers, plan, options.rounding, progress, clock)


def _calibrated(
    source: Source,
    statistics: Statistics,
    workers: RowWorkers,
    plan: Plan,
    options: RoundingOptions,
    progress: Progress,
    clock: StageClock,
) -> RoundingMethod:
    from converter.scaling.search import SearchOptions
    from converter.scaling.stage import fold_record, profits, search_scales

    with_feedback = options.method == "feedback"
    notes = tuple(statistics.warnings())
    plan, unmeasured = with_bits_for_unmeasured(plan, statistics)
    if unmeasured is not None:
        notes = (*notes, unmeasured)
    folds: Sequence[Fold] = ()
    types = {t.tensor.name: eoq for t in plan.tensors if (eoq := eoq_type(t.type)) is not None}
    wanted: Collection[str] = types
    if options.awq is None:
        wanted = [name for name, t in types.items() if profits(t, statistics, feedback=with_feedback)]
    if options.awq is not False and wanted:
        weights, nearest = SourceWeights(source, workers), RoundToNearest(workers)
        trial = _feedback(statistics, workers, options)

        def quantize(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
            t = types[tensor.name]
            return trial.trial(rows, t, moments) if with_feedback else nearest.trial(rows, t)

        search_options = SearchOptions(feedback=with_feedback, damping=options.damping, device=options.device)
        with clock.stage("scaling"):
            scaling = search_scales(source, plan, wanted, statistics, weights, quantize, search_options, progress)
        folds, notes = scaling.folds, (*notes, *scaling.refusals)
    rounder = _with_scales(source, workers, statistics, folds, options)
    return RoundingMethod(
        plan,
        rounder,
        RoundingRecipe(options, statistics.path.absolute(), tuple(folds)),
        "+".join(["awq"] * bool(folds or options.awq) + [rounder.rounding.method]),
        statistics.description,
        coverage([t.tensor for t in plan.tensors if t.tensor.name in types], statistics),
        tuple(fold_record(fold) for fold in folds),
        notes,
    )
