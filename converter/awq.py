"""Activation-aware scales: for each fold group, the channel scales under which its consumers are rounded best.

The scales are m^alpha / w^beta, with m and w the root mean square of the inputs and of the weights of each channel
(AWQ, Lin et al. 2023, has beta = 0). What is best depends on the rounding that follows: to nearest, the optimum within
a block is alpha = beta = 1/2; error feedback deals with the inputs' differences itself and wants the weights evened
out, alpha = 0 and beta between 1/2 and 1, and gets worse with AWQ's own scales. So the candidates are ordered by their
expected error (converter.expected_error) and refined by its slopes, and the real quantiser decides, on a sample of
rows, whether the best of them beats no scales at all.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.expected_error import RoundedInput
from converter.fold_groups import FoldGroup
from converter.folding import Fold, scale_moments
from converter.statistics import Statistics
from converter.tensors import TensorInfo
from converter.weights import Floats, WeightReader
from eoq_formats.types import weight_type_for_row

Quantize = Callable[[TensorInfo, Floats, NDArray[np.float32]], Floats]
"""Rows (k, n) of a tensor and their inputs' moments, (n, n) or the diagonal (n,), to the rows that its codes mean.

Tensors of one input get the same moments object one after the other.
"""

Vector = NDArray[np.float64]
Exponents = tuple[tuple[float, float], ...]

_PRIOR_TOKENS = 32
"""Tokens with evenly spread energy that a channel's mean square is taken together with: few tokens say little."""
_STEP = 0.25
"""Power of the slopes' ratio in a step. Under rounding to nearest it would lead to the optimum at once."""
_LEAST_ROWS = 64
"""Rows of each of many experts that a channel's weights are judged by."""
_ANY_BITS = 4
"""The block width depends on the row length alone."""
_LEAST_ENERGY = 1e-6
"""Of a channel, relative to the mean: dead channels must not get extreme scales."""


@dataclass(frozen=True)
class AwqOptions:
    """How scales are searched."""

    feedback: bool = True
    """Whether weights are rounded with error feedback and not to nearest."""
    nearest_exponents: Exponents = ((0.25, 0.0), (0.5, 0.0), (0.75, 0.0), (0.25, 0.25), (0.5, 0.5), (0.75, 0.75))
    """Candidates for (alpha, beta) where weights are rounded to nearest."""
    feedback_exponents: Exponents = ((0.0, 0.5), (0.25, 0.5))
    """Candidates for (alpha, beta) under error feedback; the better one is where refining starts."""
    refine_steps: int = 2
    """Steps along the slopes of the expected error under feedback."""
    refined_channels: int = 4096
    """Longer rows are not refined: a step takes about five Cholesky factorisations."""
    longest_channels: int = 8192
    """Longer rows get no scales under feedback. Of the 28 ffn_down of a 1.5B model (8,960 channels) four gained 8 % of
    their error; without them the search takes 1 minute in place of 13."""
    tried: int = 1
    """Candidates that go through the real quantiser."""
    least_gain: float = 0.01
    """Expected relative gain below which none is tried."""
    least_long_gain: float = 0.05
    """The same for rows longer than `refined_channels`, for which trying takes long."""
    balance: float = 1.0
    """Each consumer's error counts relative to the power of its outputs to this power: 0 adds up plain errors."""
    greatest_scale: float = 32.0
    """Scales are kept within 1 / this and this; their geometric mean is 1."""
    sample_rows: int = 128
    """Rows of each consumer, evenly spread, that errors are measured on."""
    sample_experts: int = 4
    """Experts, those with most tokens, that errors are measured on; each gets scales from its own statistics."""
    damping: float = 0.02
    """Of the moments, relative to their mean diagonal, for expected errors under feedback."""
    device: str = "cpu"
    """Where expected errors under feedback are computed."""


@dataclass
class _Sample:
    """Rows of one matrix of a consumer."""

    tensor: TensorInfo
    expert: int
    input_key: str
    rows: Floats
    """float32 (k, n)"""
    factor: float
    """From the rows' error to the group's: rows and experts not in the sample, tokens of the expert, balance."""


@dataclass
class _Candidate:
    scales: Floats
    """float32 (experts, sources)"""
    alpha: float = 0.0
    beta: float = 0.0
    refined: bool = False
    expected: float | None = None
    """None until it is computed."""


@dataclass(frozen=True)
class _Input:
    """An input of the samples, and what it meets."""

    own: int
    """The set of scales that is for it: the expert where each has its own."""
    rounded: RoundedInput
    samples: Sequence[_Sample]


def search(
    group: FoldGroup,
    targets: Collection[str],
    statistics: Statistics,
    weights: WeightReader,
    quantize: Quantize,
    options: AwqOptions | None = None,
) -> Fold:
    """The scales of a group. No scales (all 1) where none are better, or where no statistics are at hand.

    `targets` names the tensors that will be quantised; other consumers are folded but their errors do not count.
    `weights` gives the model's own weights: the folds of other groups do not change what is best for this one. Errors
    of the fold are tr(E M E') over tr(W M W') of the rounding errors E and weights W, summed over consumers.
    """
    return _Search(group, targets, statistics, weights, quantize, options or AwqOptions()).run()


class _Search:
    """The search for one group."""

    def __init__(
        self,
        group: FoldGroup,
        targets: Collection[str],
        statistics: Statistics,
        weights: WeightReader,
        quantize: Quantize,
        options: AwqOptions,
    ) -> None:
        self.group, self.options = group, options
        self.statistics, self.quantize = statistics, quantize
        self.source_of_channel = group.source_of_channel
        kind = weight_type_for_row(_ANY_BITS, group.channels)
        self.width = kind.width if kind else 0
        """Weights of a block; 0 where no EOQ type fits the rows."""
        shape = (group.experts, group.sources)
        self.inputs, self.seen = np.zeros(shape), np.zeros((group.experts, 1))
        self.energies: dict[str, Vector] = {}
        self.samples: list[_Sample] = []
        searched = self.width and (not self.options.feedback or group.channels <= self.options.longest_channels)
        consumers = [t for t in group.consumers if t.name in targets and t.name in statistics] if searched else []
        counts = {t.name: statistics.counts(t.name) for t in consumers}
        tokens = max((float(c.max()) for c in counts.values()), default=0.0)
        if tokens > 0:
            for tensor in consumers:
                self._take_in(tensor, counts[tensor.name] / tokens, weights)
            self.seen *= tokens
        self.moments = {(s.input_key, s.expert): self._moments_of(s) for s in self.samples}
        signals = self._signals()
        for sample in self.samples:
            sample.factor /= signals[sample.tensor.name]
        self.weight_energies = sum((e / signals.get(name, 1.0) for name, e in self.energies.items()), np.zeros(shape))
        self.rounded_inputs = self._rounded_inputs()

    def _take_in(self, tensor: TensorInfo, shares: Vector, weights: WeightReader) -> None:
        """Add a consumer, each of whose experts sees a share of all tokens."""
        experts, options = len(shares), self.options
        each = tensor.rows // experts
        taken = min(each, max(_LEAST_ROWS, options.sample_rows // experts))
        key, diagonal = self.statistics.input_key(tensor.name), self.statistics.diagonal(tensor.name)
        measured = [int(i) for i in np.argsort(-shares, kind="stable")[: options.sample_experts] if shares[i] > 0]
        left_out = shares.sum() / shares[measured].sum() if measured else 0.0
        energies = self.energies[tensor.name] = np.zeros((self.group.experts, self.group.sources))
        for expert, share in enumerate(shares):
            rows = _spread_rows(tensor, expert * each, each, taken, weights)
            energy = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
            own = expert if self.group.experts > 1 else 0
            energies[own] += self._by_source(share * each / taken * energy)
            self.inputs[own] += self._by_source(share * diagonal[expert])
            self.seen[own] = max(self.seen[own], share)
            if expert in measured:
                self.samples.append(_Sample(tensor, expert, key, rows, float(share * left_out * each / taken)))

    def _by_source(self, channels: Vector) -> Vector:
        """Sums (sources,) over the channels that share a scale."""
        return np.bincount(self.source_of_channel, channels, self.group.sources).astype(np.float64)

    def _moments_of(self, sample: _Sample) -> Floats:
        """float32 (n, n), or the diagonal (n,)."""
        known = self.statistics.moments(sample.tensor.name, sample.expert)
        moments: Floats = self.statistics.diagonal(sample.tensor.name)[sample.expert] if known is None else known
        return moments.astype(np.float32, copy=False)

    def _signals(self) -> dict[str, float]:
        """What the error of each consumer is divided by: the power of its outputs, to the power of `balance`."""
        signals: dict[str, float] = {}
        for sample in self.samples:
            power = sample.factor * _output_power(sample.rows, self.moments[sample.input_key, sample.expert])
            signals[sample.tensor.name] = signals.get(sample.tensor.name, 0.0) + power
        return {name: power**self.options.balance if power > 0 else 1.0 for name, power in signals.items()}

    def _rounded_inputs(self) -> list[_Input]:
        """The distinct inputs of the samples."""
        inputs = []
        for (key, expert), moments in self.moments.items():
            samples = [s for s in self.samples if (s.input_key, s.expert) == (key, expert)]
            energies = sum(s.factor * np.einsum("ij,ij->j", s.rows, s.rows, dtype=np.float64) for s in samples)
            own = expert if self.group.experts > 1 else 0
            inputs.append(_Input(own, RoundedInput(moments, np.asarray(energies), self.width), samples))
        return inputs

    def run(self) -> Fold:
        identity = _Candidate(np.ones((self.group.experts, self.group.sources), dtype=np.float32))
        if not self.samples:
            return Fold(self.group, identity.scales)
        options, quick = self.options, not self.options.feedback or self.group.channels <= self.options.refined_channels
        exponents = options.feedback_exponents if options.feedback else options.nearest_exponents
        candidates = sorted((self._candidate(*e) for e in exponents), key=self._expected)
        if options.feedback and quick and self.group.experts == 1:
            candidates.insert(0, self._refined(min(identity, *candidates[:1], key=self._expected)))
        least = (1 - (options.least_gain if quick else options.least_long_gain)) * self._expected(identity)
        tried = [c for c in candidates[: options.tried] if self._expected(c) < least]
        if not tried:
            return Fold(self.group, identity.scales)
        before = self._measured(identity)
        after, best = min(((self._measured(c), c) for c in tried), key=lambda pair: pair[0])
        if not after < before:
            return Fold(self.group, identity.scales, error_before=before, error_after=before)
        return Fold(self.group, best.scales, best.alpha, best.beta, best.refined, before, after)

    def _candidate(self, alpha: float, beta: float) -> _Candidate:
        mean = self.inputs.mean(axis=1, keepdims=True)
        squares = (self.seen * self.inputs + _PRIOR_TOKENS * mean) / (self.seen + _PRIOR_TOKENS)
        return _Candidate(
            self._in_range(_floored(squares) ** (alpha / 2) / _floored(self.weight_energies) ** (beta / 2)), alpha, beta
        )

    def _in_range(self, scales: Vector) -> Floats:
        """Geometric mean 1 for each expert, and nothing extreme."""
        scales = scales / np.exp(np.log(scales).mean(axis=1, keepdims=True))
        greatest = self.options.greatest_scale
        return np.clip(scales, 1 / greatest, greatest).astype(np.float32)

    def _expected(self, candidate: _Candidate) -> float:
        """The error of the samples over that of the codebook on N(0, 1)."""
        if candidate.expected is None:
            candidate.expected = 0.0
            for each in self.rounded_inputs:
                scales = candidate.scales[each.own, self.source_of_channel].astype(np.float64)
                if self.options.feedback:
                    candidate.expected += each.rounded.feedback(scales, self.options.damping, self.options.device)
                else:
                    candidate.expected += each.rounded.nearest(scales)
        return candidate.expected

    def _refined(self, start: _Candidate) -> _Candidate:
        """Where the slopes of the expected error under feedback lead."""
        best, step = start, _STEP
        for _ in range(self.options.refine_steps):
            inputs, weights = np.zeros(self.group.sources), np.zeros(self.group.sources)
            for each in self.rounded_inputs:
                scales = best.scales[0, self.source_of_channel].astype(np.float64)
                slopes = each.rounded.feedback_slopes(scales, self.options.damping, self.options.device)
                if slopes is None:
                    return best
                inputs += self._by_source(slopes.inputs)
                weights += self._by_source(slopes.weights)
            # at the optimum both are equal for every scale
            ratio = np.clip(_floored(inputs) / _floored(weights), 1e-3, 1e3)
            scales = self._in_range((best.scales[0] * ratio**step)[None])
            moved = _Candidate(scales, start.alpha, start.beta, refined=True)
            if self._expected(moved) < self._expected(best):
                best = moved
            else:
                step /= 2
        return best

    def _measured(self, candidate: _Candidate) -> float:
        """The error of the samples after the real quantiser."""
        total = 0.0
        for each in self.rounded_inputs:
            scales = candidate.scales[each.own, self.source_of_channel]
            moments = each.rounded.moments.copy()
            scale_moments(moments, scales)
            for sample in each.samples:
                rows = sample.rows * scales
                error = rows - self.quantize(sample.tensor, rows, moments)
                total += sample.factor * _output_power(error, moments)
        return total


def _floored(values: Vector) -> Vector:
    """Values with the least that a channel can have, relative to the mean over the last axis."""
    floored: Vector = np.maximum(values, _LEAST_ENERGY * values.mean(axis=-1, keepdims=True) + 1e-300)
    return floored


def _output_power(rows: Floats, moments: Floats) -> float:
    """tr(W M W') of rows W (k, n): the mean square of their outputs, summed."""
    reached = rows * moments if moments.ndim == 1 else rows @ moments
    return float(np.einsum("ij,ij->", reached, rows, dtype=np.float64))


def _spread_rows(tensor: TensorInfo, first: int, rows: int, taken: int, weights: WeightReader) -> Floats:
    """`taken` of the `rows` rows that begin at `first`, evenly spread, float32 (taken, row length)."""
    chosen = first + (np.arange(taken) * rows + rows // 2) // taken
    sample = np.empty((taken, tensor.row_length), dtype=np.float32)
    for target, row in zip(sample, chosen, strict=True):
        target[:] = weights.read(tensor, int(row), int(row) + 1)[0]
    return sample
