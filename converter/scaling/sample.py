"""What the scales of a fold group are judged by: rows of its consumers, and the inputs that these meet."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.scaling.fold_groups import FoldGroup
from converter.statistics import Statistics
from converter.statistics.expected_error import RoundedInput
from eoq_formats.types import block_width
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats, WeightReader

Vector = NDArray[np.float64]

_LEAST_ROWS = 64
"""Rows of each of many experts that a channel's weights are judged by."""


@dataclass(frozen=True)
class SampleOptions:
    """How much is looked at."""

    rows: int = 128
    """Rows of each consumer, evenly spread, that errors are measured on."""
    experts: int = 4
    """Experts, those with most tokens, that errors are measured on; each gets scales from its own statistics."""
    balance: float = 1.0
    """Each consumer's error counts relative to the power of its outputs to this power: 0 adds up plain errors."""


@dataclass
class SampledRows:
    """Rows of one matrix of a consumer."""

    tensor: TensorInfo
    expert: int
    input_key: str
    rows: Floats
    """float32 (k, n)"""
    factor: float
    """From the rows' error to the group's: rows and experts not in the sample, tokens of the expert, balance."""


@dataclass(frozen=True)
class SampledInput:
    """An input of the sampled rows, and what it meets."""

    own: int
    """The set of scales that is for it: the expert where each has its own."""
    rounded: RoundedInput
    rows: Sequence[SampledRows]


@dataclass(frozen=True)
class GroupSample:
    """A fold group in numbers. Scales are (experts, sources), one for each channel of the producers."""

    mean_squares: Vector
    """Inputs' mean squares, float64 (experts, sources), summed over consumers and the channels that share a scale."""
    tokens: Vector
    """Seen by each expert, float64 (experts, 1)."""
    weight_energies: Vector
    """Squared weights that meet each scale, float64 (experts, sources), each consumer's relative to its outputs."""
    inputs: Sequence[SampledInput]
    """The distinct inputs; empty where no scales can be judged."""


def sample_group(
    group: FoldGroup,
    quantized: Collection[str],
    statistics: Statistics,
    weights: WeightReader,
    options: SampleOptions,
) -> GroupSample:
    """Read what there is to know of a group: its consumers that are quantised and have statistics."""
    shape = (group.experts, group.sources)
    mean_squares, seen = np.zeros(shape), np.zeros((group.experts, 1))
    energies: dict[str, Vector] = {}
    samples: list[SampledRows] = []
    width = block_width(group.channels)
    consumers = [t for t in group.consumers if t.name in quantized and t.name in statistics] if width else []
    counts = {t.name: statistics.counts(t.name) for t in consumers}
    tokens = max((float(c.max()) for c in counts.values()), default=0.0)
    if not width or not tokens > 0:
        return GroupSample(mean_squares, seen, np.zeros(shape), ())
    for tensor in consumers:
        shares = counts[tensor.name] / tokens
        diagonal = statistics.diagonal(tensor.name)
        rows, energies[tensor.name] = _sample_consumer(tensor, group, shares, statistics, weights, options)
        samples += rows
        for expert, share in enumerate(shares):
            own = expert if group.experts > 1 else 0
            mean_squares[own] += by_source(group, share * diagonal[expert])
            seen[own] = max(seen[own], share)
    moments = {
        (s.input_key, s.expert): statistics.for_rounding(s.tensor.name, s.expert).values.astype(np.float32, copy=False)
        for s in samples
    }
    signals = _signals(samples, moments, options.balance)
    for s in samples:
        s.factor /= signals[s.tensor.name]
    weight_energies = sum((e / signals.get(name, 1.0) for name, e in energies.items()), np.zeros(shape))
    inputs = []
    for (key, expert), known in moments.items():
        rows = [s for s in samples if (s.input_key, s.expert) == (key, expert)]
        met = sum(s.factor * np.einsum("ij,ij->j", s.rows, s.rows, dtype=np.float64) for s in rows)
        own = expert if group.experts > 1 else 0
        inputs.append(SampledInput(own, RoundedInput(known, np.asarray(met), width), rows))
    return GroupSample(mean_squares, seen * tokens, weight_energies, inputs)


def _sample_consumer(
    tensor: TensorInfo,
    group: FoldGroup,
    shares: Vector,
    statistics: Statistics,
    weights: WeightReader,
    options: SampleOptions,
) -> tuple[list[SampledRows], Vector]:
    """Rows of a consumer, each of whose experts sees a share of all tokens, and its squared weights by scale."""
    experts = len(shares)
    each = tensor.rows // experts
    taken = min(each, max(_LEAST_ROWS, options.rows // experts))
    measured = [int(i) for i in np.argsort(-shares, kind="stable")[: options.experts] if shares[i] > 0]
    left_out = shares.sum() / shares[measured].sum() if measured else 0.0
    energies = np.zeros((group.experts, group.sources))
    samples = []
    for expert, share in enumerate(shares):
        rows = _spread_rows(tensor, expert * each, each, taken, weights)
        energy = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
        energies[expert if group.experts > 1 else 0] += by_source(group, share * each / taken * energy)
        if expert in measured:
            factor = float(share * left_out * each / taken)
            samples.append(SampledRows(tensor, expert, statistics.input_key(tensor.name), rows, factor))
    return samples, energies


def _signals(
    samples: Sequence[SampledRows], moments: Mapping[tuple[str, int], Floats], balance: float
) -> dict[str, float]:
    """What the error of each consumer is divided by: the power of its outputs, to the power of `balance`."""
    signals: dict[str, float] = {}
    for s in samples:
        power = s.factor * output_power(s.rows, moments[s.input_key, s.expert])
        signals[s.tensor.name] = signals.get(s.tensor.name, 0.0) + power
    return {name: power**balance if power > 0 else 1.0 for name, power in signals.items()}


def by_source(group: FoldGroup, channels: Vector) -> Vector:
    """Sums (sources,) over the channels that share a scale."""
    return np.bincount(group.source_of_channel, channels, group.sources).astype(np.float64)


def output_power(rows: Floats, moments: Floats) -> float:
    """tr(W M W') of rows W (k, n): the mean square of their outputs, summed."""
    reached = rows * moments if moments.ndim == 1 else rows @ moments
    return float(np.einsum("ij,ij->", reached, rows, dtype=np.float64))


def _spread_rows(tensor: TensorInfo, first: int, rows: int, taken: int, weights: WeightReader) -> Floats:
    """`taken` of the `rows` rows that begin at `first`, evenly spread, float32 (taken, row length)."""
    chosen = first + (np.arange(taken) * rows + rows // 2) // taken
    sample = np.empty((taken, tensor.row_length), dtype=np.float32)
    for place, row in zip(sample, chosen, strict=True):
        place[:] = weights.read(tensor, int(row), int(row) + 1)[0]
    return sample
