"""The scales that a conversion folded into a model, found again by comparing the file with its source.

No file records them. They divide what gives the channels of a fold group and multiply what reads them, so a norm's
weights, kept in float32, give them to 2^-23, and rows of a rounded matrix as well as its rounding lets them. Whatever
is read with scales taken from elsewhere proves them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter.rounding.rounded_rows import row_chunks
from converter.scaling import Fold, Folded, FoldGroup, Producer, fold_groups
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import SourceWeights, WeightReader
from inspection.row_sums import RowSums, row_sums
from terminal.progress import Progress

_DOUBTS = 4.0
"""Scales may be twice as far off as expected."""
_SMALLEST = 1e-30
"""Smaller scales, and larger ones than its inverse, are damage."""


@dataclass(frozen=True)
class FoundScales:
    folded: Folded
    """The source's weights with the scales in them."""
    doubt: Mapping[str, float]
    """By name of a tensor, the relative squared error that its scales may add to that of its rounding."""
    dead: Mapping[str, NDArray[np.bool_]]
    """By name of a tensor, bool (row length,): columns that read zeros alone, so nothing tells their scales."""

    @classmethod
    def none(cls, weights: WeightReader) -> "FoundScales":
        return cls(Folded(weights, ()), {}, {})

    def touches(self, name: str) -> bool:
        return self.folded.touches(name)


def find_scales(
    source: Source,
    written: Mapping[str, TensorInfo],
    read: SourceWeights,
    read_written: SourceWeights,
    progress: Progress,
) -> FoundScales:
    """Compare all tensors that scales may divide. `written` has the tensors of the file by name."""
    groups = [g for g in _groups(source, written) if all(p.tensor.name in written for p in g.producers)]
    progress.stage("finding the scales", len(groups))
    by_vectors = [g for g in groups if g.producers[0].is_vector]
    by_rows = [g for g in groups if not g.producers[0].is_vector]
    folds: list[Fold] = []
    doubt: dict[str, float] = {}
    dead: dict[str, NDArray[np.bool_]] = {}
    for some in (by_vectors, by_rows):
        # columns of the matrices are scaled by norms
        folded = Folded(read, folds)
        for group in some:
            fold, error, is_zero = _find(group, folded, read_written, written)
            folds = [*folds, fold]
            for name in _judged(group):
                doubt[name] = doubt.get(name, 0.0) + error
            if group.experts == 1 and is_zero.any():
                dead |= {t.name: is_zero[0, group.source_of_channel] for t in group.consumers}
            progress.advance(1)
    return FoundScales(Folded(read, folds), doubt, dead)


def _groups(source: Source, written: Mapping[str, TensorInfo]) -> Sequence[FoldGroup]:
    """Those that a conversion could have scaled (converter.scaling.stage)."""
    fixed = {
        t.name
        for t in source.tensors
        if t.name in written and written[t.name].type == t.type and t.type != GGMLQuantizationType.F32
    }
    return fold_groups(source.architecture, source.tensors, source.metadata, fixed).groups


def _judged(group: FoldGroup) -> Collection[str]:
    """Tensors that the scales of a group come back to: not the matrix whose rows they fit best."""
    vectors = [p.tensor.name for p in group.producers if p.is_vector]
    return (*vectors, *(t.name for t in group.consumers))


def _find(
    group: FoldGroup, folded: WeightReader, read_written: WeightReader, written: Mapping[str, TensorInfo]
) -> tuple[Fold, float, NDArray[np.bool_]]:
    """Scales, how far they may be off, and which channels are zero, bool (experts, sources).

    The scale of a row is the ratio of its lengths. The rounded row is shorter by half its relative error where it was
    rounded to nearest, and longer by as much where errors have nothing to do with the weights, as under feedback; so
    scales are off by half the error, and at random by its root over that of the row's length.
    """
    shape = group.experts, group.sources
    xx, xy, yy = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for producer in group.producers:
        sums = _sums(producer, folded, read_written, written[producer.tensor.name])
        for total, part in zip((xx, xy, yy), sums[:3], strict=True):
            by_expert = part.reshape(group.experts, -1)
            total += by_expert[:, producer.first : producer.first + group.sources]
    with np.errstate(all="ignore"):  # a damaged file may hold anything
        known = (xy > 0) & (yy > 0) & np.isfinite(xy) & np.isfinite(yy)
        scales = np.sqrt(np.divide(xx, yy, out=np.ones(shape), where=known))
        scales = np.where((scales > _SMALLEST) & (scales < 1 / _SMALLEST), scales, 1.0).astype(np.float32)
        left = np.nansum(np.maximum(xx - np.divide(xy * xy, yy, out=np.zeros(shape), where=known), 0))
    energy = np.nansum(xx)
    error = float(left / energy) if energy > 0 else 0.0
    first = group.producers[0]
    length = 1 if first.is_vector else first.tensor.row_length
    return Fold(group, scales), _DOUBTS * (error * error / 4 + error / length), (xx == 0) & (yy == 0)


def _sums(producer: Producer, folded: WeightReader, read_written: WeightReader, written: TensorInfo) -> RowSums:
    """Of source and file, over what gives each channel: a row, or an element of a vector."""
    tensor = producer.tensor
    parts = []
    for start, stop in row_chunks(tensor):
        x, y = folded.read(tensor, start, stop), read_written.read(written, start, stop)
        parts.append(row_sums(x.reshape(-1, 1), y.reshape(-1, 1)) if producer.is_vector else row_sums(x, y))
    return RowSums(*(np.concatenate(sums) for sums in zip(*parts, strict=True)))
