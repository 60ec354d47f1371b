"""Quantisation with parts of the method alone: 5-bit grids of absmax or Lloyd-Max levels, rotated or not, with AWQ.

No type of a file has these grids, so what the weights become is stored in F16, whose own rounding is a hundred times
finer than that of 5 bits. Scales are fp16 numbers, one for each block, as in the types.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.options import TypeOptions
from converter.plan import Plan, TensorPlan, resolve_plan
from converter.rounding.rounded_rows import row_chunks
from converter.scaling import Fold, Folded
from converter.scaling.search import SearchOptions
from converter.scaling.stage import search_scales
from converter.statistics import Statistics
from converter.statistics.factor import Basis, rotation_matrix
from eoq_formats.codebooks import codebook
from gguf_files.output import GgufOutput
from gguf_files.source import Source, open_gguf
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Bytes, Floats, RowWorkers, SourceWeights
from terminal.progress import Progress

BITS = 5
Grid = Callable[[Floats], Floats]
"""Blocks float32 (k, width) to what they become."""

_AWQ = SearchOptions(
    feedback=False, nearest_exponents=tuple((step / 10, 0.0) for step in range(1, 11)), tried=10, least_gain=-np.inf
)
"""As Lin et al. 2023 search: exponents of the inputs alone, in tenths, by the error that rounding makes."""


def absmax(blocks: Floats) -> Floats:
    """Whole multiples, at most 15, of a fifteenth of the block's greatest magnitude."""
    most = 2 ** (BITS - 1) - 1
    unit = _as_scales(np.abs(blocks).max(axis=1, keepdims=True) / np.float32(most))
    return np.clip(np.rint(_over(blocks, unit)), -most, most) * unit


def lloyd_max(blocks: Floats) -> Floats:
    """The levels that are best for normal weights, times the block's root mean square."""
    levels = codebook(BITS).real_levels.astype(np.float32)
    unit = _as_scales(np.sqrt(np.square(blocks).mean(axis=1, keepdims=True)))
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, _over(blocks, unit))] * unit


def rotated(grid: Grid) -> Grid:
    """The grid in the basis that EOQ types round in."""

    def in_basis(blocks: Floats) -> Floats:
        rotation: Floats = rotation_matrix(Basis(blocks.shape[1])).numpy()
        return grid(blocks @ rotation.T) @ rotation

    return in_basis


def _as_scales(values: Floats) -> Floats:
    return values.astype(np.float16).astype(np.float32)


def _over(blocks: Floats, unit: Floats) -> Floats:
    return np.divide(blocks, unit, out=np.zeros_like(blocks), where=unit > 0)


@dataclass(frozen=True)
class ComponentFile:
    """A model with the weights of a grid."""

    grid: Grid
    awq: bool = False
    """Whether input channels are scaled first by AWQ's own search, with this grid."""


def write_component_file(
    made: ComponentFile,
    source: Path,
    target: Path,
    threads: int,
    statistics: Statistics | None = None,
    weights_of: Path | None = None,
) -> None:
    """An F16 GGUF; blocks are as wide as those of EOQ5, embeddings and output stay. Raises EoqError.

    AWQ needs `statistics`. `weights_of` is a file made of the same model, whose weights the grid gets in place of the
    model's own.
    """
    model = open_gguf(source)
    given = model if weights_of is None else open_gguf(weights_of)
    types = TypeOptions(f"eoq{BITS}", output_type="f16", token_embd_type="f16")
    plan = resolve_plan(model.tensors, model.architecture, types)
    with ExitStack() as stack:
        workers = stack.enter_context(RowWorkers(threads))
        folds: tuple[Fold, ...] = ()
        if made.awq:
            assert statistics is not None
            folds = _search(made.grid, model, plan, statistics, workers)
        weights = Folded(SourceWeights(given, workers), folds)
        tensors = [t.tensor for t in plan.tensors]
        output = stack.enter_context(GgufOutput(target, model.metadata, tensors, model.alignment))
        for tensor in plan.tensors:
            output.write_tensor(_rows(tensor, made.grid, given, weights))
        output.commit()


def _search(grid: Grid, model: Source, plan: Plan, statistics: Statistics, workers: RowWorkers) -> tuple[Fold, ...]:
    widths = {t.tensor.name: eoq.width for t in plan.tensors if (eoq := eoq_type(t.type)) is not None}

    def quantize(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
        return _by_block(grid, rows, widths[tensor.name])

    weights = SourceWeights(model, workers)
    return search_scales(model, plan, set(widths), statistics, weights, quantize, _AWQ, Progress()).folds


def _by_block(grid: Grid, rows: Floats, width: int) -> Floats:
    return grid(rows.reshape(-1, width)).reshape(rows.shape)


def _rows(plan: TensorPlan, grid: Grid, given: Source, weights: Folded) -> Iterator[Bytes]:
    stored = next(tensor for tensor in given.tensors if tensor.name == plan.tensor.name)
    eoq = eoq_type(plan.type)
    for start, stop in row_chunks(stored):
        if eoq is not None:
            rows = _by_block(grid, weights.read(stored, start, stop), eoq.width)
            yield rows.astype(np.float16).view(np.uint8)
        elif weights.touches(stored.name):
            yield weights.stored(stored, start, stop)
        else:
            yield given.rows(stored, start, stop)
