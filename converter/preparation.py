"""What rounding works with: the weights, scaled or not, the statistics, and the way to round."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from converter.options import ConversionOptions
from converter.plan import Plan
from converter.progress import Progress
from converter.report import FoldRecord, StageClock
from converter.rounding import RoundedRows, Rounding, RoundToNearest, row_chunks
from converter.source import Source
from converter.tensor_types import eoq_type
from converter.tensors import TensorInfo
from converter.weights import Floats, RowWorkers, SourceWeights, WeightReader

if TYPE_CHECKING:
    from converter.folding import Fold, Folded
    from converter.statistics import Statistics


@dataclass(frozen=True)
class Preparation:
    """All that stands between the plan and the codes."""

    weights: WeightReader
    rounding: Rounding
    method: str
    """Name of it all in the file's metadata."""
    statistics: str | None = None
    """What the statistics were taken from; None without any."""
    folds: tuple[FoldRecord, ...] = ()
    notes: tuple[str, ...] = ()
    folded: "Folded | None" = None

    def is_scaled(self, tensor: TensorInfo) -> bool:
        """Whether AWQ scales are folded into the tensor."""
        return self.folded is not None and self.folded.touches(tensor.name)

    def scaled_copy(self, tensor: TensorInfo) -> Iterator[RoundedRows]:
        """Rows of a tensor that keeps its type but is scaled, such as a norm."""
        assert self.folded is not None
        for start, stop in row_chunks(tensor):
            yield RoundedRows(self.folded.stored(tensor, start, stop), 0.0, 0.0, "copy")


@contextmanager
def prepared(
    model: Source,
    path: Path,
    target: Path,
    plan: Plan,
    options: ConversionOptions,
    workers: RowWorkers,
    progress: Progress,
    clock: StageClock,
) -> Iterator[Preparation]:
    """Take statistics and search scales, as the options and the plan ask for. Statistics last as long as the context.

    Raises StatisticsError, CalibrationError or TargetError.
    """
    weights, nearest = SourceWeights(model, workers), RoundToNearest(workers)
    if not options.is_calibrated or not plan.eoq_types:
        yield Preparation(weights, nearest, nearest.method)
        return
    # torch and transformers take seconds to load, which rounding to nearest does not need
    from converter.calibrated import statistics_of
    from converter.statistics import ShrunkStatistics
    from converter.torch_settings import torch_settings

    with ExitStack() as stack:
        with clock.stage("calibrating"):
            measured = stack.enter_context(statistics_of(model, path, target, options, progress))
        stack.enter_context(torch_settings(options.threads))
        statistics = ShrunkStatistics(measured, options.shrinkage)
        yield _prepared(model, statistics, weights, nearest, plan, options, progress, clock)


def _prepared(
    model: Source,
    statistics: "Statistics",
    weights: WeightReader,
    nearest: RoundToNearest,
    plan: Plan,
    options: ConversionOptions,
    progress: Progress,
    clock: StageClock,
) -> Preparation:
    from converter.awq import AwqOptions
    from converter.folding import Folded, FoldedStatistics
    from converter.rounding.error_feedback import ErrorFeedback, FeedbackOptions
    from converter.scaling import fold_record, search_scales

    with_feedback = options.rounding == "feedback"
    feedback_options = FeedbackOptions(options.damping, device=options.calibration.device)
    notes = (*statistics.notes, *statistics.warnings())
    folds: Sequence[Fold] = ()
    if options.awq:
        types = {t.tensor.name: eoq for t in plan.tensors if (eoq := eoq_type(t.type)) is not None}
        trial = ErrorFeedback(statistics, nearest, feedback_options)

        def quantize(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
            t = types[tensor.name]
            return trial.trial(rows, t, moments) if with_feedback else nearest.trial(rows, t)

        awq = AwqOptions(feedback=with_feedback, damping=options.damping, device=options.calibration.device)
        with clock.stage("scaling"):
            scaling = search_scales(model, plan, statistics, weights, quantize, awq, progress)
        folds, notes = scaling.folds, (*notes, *scaling.refusals)
    folded = Folded(weights, folds)
    rounding: Rounding = nearest
    if with_feedback:
        rounding = ErrorFeedback(FoldedStatistics(statistics, folded), nearest, feedback_options)
    return Preparation(
        folded,
        rounding,
        "+".join(["awq"] * options.awq + [rounding.method]),
        statistics.description,
        tuple(fold_record(fold) for fold in folds),
        notes,
        folded,
    )
