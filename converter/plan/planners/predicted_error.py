"""Losses of tensors from the second moments of their inputs: what error feedback is expected to leave."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from converter.plan.planners.losses import TensorLoss
from converter.statistics import Statistics
from converter.statistics.expected_error import RoundedInput
from eoq_formats.types import block_width
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights

_PIECE_WEIGHTS = 1 << 22


def measured_losses(
    source: Source,
    tensors: Sequence[TensorInfo],
    statistics: Statistics,
    damping: float,
    threads: int,
    done: Callable[[int], None] = lambda weights: None,
) -> dict[str, TensorLoss]:
    """Losses of the tensors that there are statistics for, by name. Experts count by the tokens that they saw.

    `done` hears of the weights looked at.
    """
    losses = {}
    with RowWorkers(threads) as workers:
        weights = SourceWeights(source, workers)
        for tensor in tensors:
            if tensor.name in statistics:
                losses[tensor.name] = _loss(tensor, weights, statistics, damping)
            done(tensor.weights)
    return losses


def _loss(tensor: TensorInfo, weights: SourceWeights, statistics: Statistics, damping: float) -> TensorLoss:
    counts = statistics.counts(tensor.name)
    matrices = len(counts)
    height = tensor.rows // matrices
    width = block_width(tensor.row_length)
    one = np.ones(tensor.row_length)
    feedback = nearest = signal = 0.0
    for expert in range(matrices):
        moments = statistics.for_rounding(tensor.name, expert).values
        energies, output = _energies(tensor, weights, moments, expert * height, (expert + 1) * height)
        share = counts[expert] if matrices > 1 else 1.0
        if width is not None:
            rounded = RoundedInput(moments, energies, width)
            white = rounded.nearest(one)
            least = rounded.feedback(one, damping)
            feedback += share * (least if np.isfinite(least) else white)
            nearest += share * white
        signal += share * output
    return TensorLoss(feedback / signal, nearest / signal) if signal and nearest else TensorLoss()


def _energies(
    tensor: TensorInfo, weights: SourceWeights, moments: NDArray[np.float32], start: int, stop: int
) -> tuple[NDArray[np.float64], float]:
    """Squared weights of each input channel, and tr(W M Wᵀ), of rows [start, stop)."""
    energies, output = np.zeros(tensor.row_length), 0.0
    step = max(1, _PIECE_WEIGHTS // tensor.row_length)
    for row in range(start, stop, step):
        rows = weights.read(tensor, row, min(row + step, stop))
        energies += np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        reached = rows * moments if moments.ndim == 1 else rows @ moments
        output += float(np.einsum("ij,ij->", reached, rows, dtype=np.float64))
    return energies, output
