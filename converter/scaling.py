"""The AWQ stage: scales for every fold group of a model."""

from dataclasses import dataclass

from gguf import GGMLQuantizationType

from converter.awq import AwqOptions, Quantize, search
from converter.fold_groups import fold_groups
from converter.folding import Fold
from converter.plan import Plan
from converter.progress import Progress
from converter.report import FoldRecord
from converter.source import Source
from converter.statistics import Statistics
from converter.tensor_types import eoq_type
from converter.weights import WeightReader


@dataclass(frozen=True)
class Scaling:
    """What came of the search."""

    folds: tuple[Fold, ...]
    refusals: tuple[str, ...]
    """What cannot be folded, and why."""


def search_scales(
    model: Source,
    plan: Plan,
    statistics: Statistics,
    weights: WeightReader,
    quantize: Quantize,
    options: AwqOptions,
    progress: Progress,
) -> Scaling:
    """Search the scales of all legal fold groups whose consumers are quantised to EOQ types."""
    targets = {t.tensor.name for t in plan.tensors if eoq_type(t.type) is not None}
    # scaling a copy rounds its weights once more, which is free in float32 alone
    fixed = {t.tensor.name for t in plan.tensors if t.is_copy and t.type != GGMLQuantizationType.F32}
    table = fold_groups(model.architecture, model.tensors, model.metadata, fixed)
    groups = [g for g in table.groups if any(t.name in targets and t.name in statistics for t in g.consumers)]
    progress.stage("scaling (AWQ)", len(groups))
    folds: list[Fold] = []
    for group in groups:
        folds.append(search(group, targets, statistics, weights, quantize, options))
        progress.advance(1)
    refusals = dict.fromkeys(f"{refusal.what}: {refusal.reason}" for refusal in table.refusals)
    return Scaling(tuple(folds), tuple(refusals))


def fold_record(fold: Fold) -> FoldRecord:
    """The fold as the report shows it."""
    return FoldRecord(
        fold.group.name,
        tuple(tensor.name for tensor in fold.group.consumers),
        fold.alpha,
        fold.beta,
        fold.refined,
        float(fold.scales.min()),
        float(fold.scales.max()),
        fold.error_before,
        fold.error_after,
    )
