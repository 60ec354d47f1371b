"""What each type would cost a tensor: the error of its outputs relative to their energy, before anything is rounded.

With second moments of the inputs it is the closed form of converter.expected_error for error feedback. Without them
inputs are taken to be alike and uncorrelated: then it is the error of the codebook on normally distributed weights,
which after rotation they are. Both are taken to be proportional to the codebook's, but for what error feedback loses
with fewer bits, so a tensor needs one number for all bit rates.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter.plan.levels import LADDER
from converter.source import Source
from converter.tensor_types import TypeChoice, bits_per_weight, eoq_type, parse_type, row_bytes
from converter.tensors import TensorInfo
from converter.weights import RowWorkers, SourceWeights
from eoq_formats.codebooks import codebook

if TYPE_CHECKING:
    from converter.statistics import Statistics

CANDIDATES = LADDER
Q8_0_ERROR = 2.87e-5
"""Relative squared error of Q8_0 on normally distributed weights: (largest of 32 / 127)² / 12, a mean."""
F16_ERROR = 4e-8
"""The same of F16, whose errors are 2^-12 of a weight on average."""
FEEDBACK_EXCESS = {2: 1.26, 3: 1.10, 4: 1.0, 5: 0.94, 6: 0.93}
"""Error of the outputs after error feedback, over that of the codebook, both relative to 4 bits.

Coarse codes push more onto the columns that follow. From the reports of two conversions of the 0.5B model, medians over
15 to 40 tensors that lie within 5 % of them; EOQ2 from a single one.
"""
_PIECE_WEIGHTS = 1 << 22


@dataclass(frozen=True)
class TensorLoss:
    """How much of a type's error reaches the outputs of a tensor."""

    feedback: float = 1.0
    """Error of the outputs relative to their energy, over that of the codebook, for the EOQ types."""
    nearest: float = 1.0
    """The same over the relative error of single weights, for types that are rounded to nearest."""
    weight: float = 1.0
    """What a relative error of the outputs of 1 costs; 1 for all where sensitivities are not measured."""

    def of(self, t: GGMLQuantizationType) -> float:
        """The predicted loss of a type."""
        eoq = eoq_type(t)
        if eoq is not None:
            return self.weight * self.feedback * FEEDBACK_EXCESS[eoq.bits] * codebook(eoq.bits).mse
        error = {GGMLQuantizationType.Q8_0: Q8_0_ERROR, GGMLQuantizationType.F16: F16_ERROR}.get(t, 0.0)
        return self.weight * self.nearest * error


@dataclass(frozen=True)
class Candidate:
    """A type that a tensor may get."""

    choice: TypeChoice | None
    """None: as in the source."""
    type: GGMLQuantizationType
    nbytes: int


def candidates(tensor: TensorInfo, names: Sequence[str] = CANDIDATES) -> list[Candidate]:
    """The types that fit the rows and take fewer bytes than the source, which comes last itself."""
    found = []
    for name in names:
        choice = parse_type(name)
        t = choice.for_row(tensor.row_length)
        if t is not None and bits_per_weight(t) < bits_per_weight(tensor.type):
            found.append(Candidate(choice, t, row_bytes(t, tensor.row_length) * tensor.rows))
    return [*found, Candidate(None, tensor.type, tensor.nbytes)]


def measured_losses(
    model: Source,
    tensors: Sequence[TensorInfo],
    statistics: "Statistics",
    damping: float,
    threads: int,
    done: Callable[[int], None] = lambda weights: None,
) -> dict[str, TensorLoss]:
    """Losses of the tensors that there are statistics for. Experts count by the tokens that they saw."""
    found = {}
    with RowWorkers(threads) as workers:
        weights = SourceWeights(model, workers)
        for tensor in tensors:
            if tensor.name in statistics:
                found[tensor.name] = _loss(tensor, weights, statistics, damping)
            done(tensor.weights)
    return found


def _loss(tensor: TensorInfo, weights: SourceWeights, statistics: "Statistics", damping: float) -> TensorLoss:
    from converter.expected_error import RoundedInput

    counts = statistics.counts(tensor.name)
    matrices = len(counts)
    height = tensor.rows // matrices
    width = 128 if tensor.row_length % 128 == 0 else 64
    one = np.ones(tensor.row_length)
    feedback = nearest = signal = 0.0
    for expert in range(matrices):
        moments = statistics.moments(tensor.name, expert)
        if moments is None:
            moments = statistics.diagonal(tensor.name)[expert].astype(np.float32)
        energies, output = _energies(tensor, weights, moments, expert * height, (expert + 1) * height)
        share = counts[expert] if matrices > 1 else 1.0
        if tensor.row_length % width == 0:
            seen = RoundedInput(moments, energies, width)
            white = seen.nearest(one)
            least = seen.feedback(one, damping)
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


def with_sensitivities(
    losses: Mapping[str, TensorLoss], tensors: Sequence[TensorInfo], sensitivities: Mapping[str, float]
) -> dict[str, TensorLoss]:
    """The losses of the tensors weighted by what an error of their outputs costs; a median where that is unknown."""
    usual = float(np.median(list(sensitivities.values()))) if sensitivities else 1.0
    found = {}
    for tensor in tensors:
        loss = losses.get(tensor.name, TensorLoss())
        found[tensor.name] = TensorLoss(loss.feedback, loss.nearest, sensitivities.get(tensor.name, usual))
    return found
