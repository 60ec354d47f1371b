"""The AWQ stage: scales for every fold group of a model."""

from collections.abc import Collection
from dataclasses import dataclass

from gguf import GGMLQuantizationType

from converter.plan import Plan
from converter.report.records import FoldRecord
from converter.scaling.fold_groups import fold_groups
from converter.scaling.folding import Fold
from converter.scaling.search import Quantize, SearchOptions, search
from converter.statistics import Statistics
from eoq_formats.types import WeightType
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from gguf_files.weights import WeightReader
from terminal.progress import Progress


@dataclass(frozen=True)
class Scaling:
    """What came of the search."""

    folds: tuple[Fold, ...]
    refusals: tuple[str, ...]
    """What cannot be folded, and why."""


_MOST_BITS = 2


def profits(t: WeightType, statistics: Statistics, *, feedback: bool) -> bool:
    """Whether scales make weights of a type better.

    Under error feedback they do at two bits alone (docs/results.md, "Method by method"), as it sees the inputs itself;
    with diagonal statistics feedback is little more than rounding to nearest.
    """
    return not feedback or not statistics.has_moments or t.bits <= _MOST_BITS


def search_scales(
    source: Source,
    plan: Plan,
    wanted: Collection[str],
    statistics: Statistics,
    weights: WeightReader,
    quantize: Quantize,
    options: SearchOptions,
    progress: Progress,
) -> Scaling:
    """Search the scales of all legal fold groups with a consumer that is `wanted`, by name.

    Only those that are quantised to EOQ types have a say in them.
    """
    quantized = {t.tensor.name for t in plan.tensors if eoq_type(t.type) is not None}
    # scaling a copy rounds its weights once more, which is free in float32 alone
    fixed = {t.tensor.name for t in plan.tensors if t.is_copy and t.type != GGMLQuantizationType.F32}
    table = fold_groups(source.architecture, source.tensors, source.metadata, fixed)
    groups = [g for g in table.groups if any(t.name in wanted and t.name in statistics for t in g.consumers)]
    progress.stage("scaling (AWQ)", len(groups))
    folds: list[Fold] = []
    for group in groups:
        folds.append(search(group, quantized, statistics, weights, quantize, options))
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
