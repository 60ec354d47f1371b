"""Activation-aware scales: for each fold group, the channel scales under which its consumers are rounded best.

The scales are m^alpha / w^beta, with m and w the root mean square of the inputs and of the weights of each channel
(AWQ, Lin et al. 2023, has beta = 0). What is best depends on the rounding that follows: to nearest, the optimum within
a block is alpha = beta = 1/2; error feedback deals with the inputs' differences itself and wants the weights evened
out, alpha = 0 and beta between 1/2 and 1, and gets worse with AWQ's own scales. So the candidates are ordered by their
expected error (converter.statistics.expected_error) and refined by its slopes, and the real quantiser decides, on a
sample of rows, whether the best of them beats no scales at all.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from converter.scaling.candidates import Candidate, Candidates
from converter.scaling.fold_groups import FoldGroup
from converter.scaling.folding import Fold, scale_moments
from converter.scaling.sample import GroupSample, SampleOptions, output_power, sample_group
from converter.statistics import Statistics
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats, WeightReader

Quantize = Callable[[TensorInfo, Floats, NDArray[np.float32]], Floats]
"""Rows (k, n) of a tensor and their inputs' moments, (n, n) or the diagonal (n,), to the rows that its codes mean.

Tensors of one input get the same moments object one after the other.
"""

Exponents = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class SearchOptions:
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
    """Least gain for rows longer than `refined_channels`, for which trying takes long."""
    greatest_scale: float = 32.0
    """Scales are kept within 1 / this and this; their geometric mean is 1."""
    damping: float = 0.02
    """What is added to the diagonal of the moments, relative to its mean, for expected errors under feedback."""
    device: str = "cpu"
    """Where expected errors under feedback are computed."""
    sample: SampleOptions = field(default_factory=SampleOptions)


def search(
    group: FoldGroup,
    quantized: Collection[str],
    statistics: Statistics,
    weights: WeightReader,
    quantize: Quantize,
    options: SearchOptions | None = None,
) -> Fold:
    """The scales of a group. No scales (all 1) where none are better, or where no statistics are at hand.

    `quantized` names the tensors that will be quantised; other consumers are folded but their errors do not count.
    `weights` gives the model's own weights: the folds of other groups do not change what is best for this one. Errors
    of the fold are tr(E M E') over tr(W M W') of the rounding errors E and weights W, summed over consumers.
    """
    options = options or SearchOptions()
    searched = not options.feedback or group.channels <= options.longest_channels
    sample = sample_group(group, quantized if searched else (), statistics, weights, options.sample)
    candidates = Candidates(group, sample, options.feedback, options.damping, options.greatest_scale, options.device)
    identity = candidates.none()
    if not sample.inputs:
        return Fold(group, identity.scales)
    tried = _worth_trying(candidates, identity, options)
    if not tried:
        return Fold(group, identity.scales)
    before = _measured(identity, group, sample, quantize)
    after, best = min(((_measured(c, group, sample, quantize), c) for c in tried), key=lambda pair: pair[0])
    if not after < before:
        return Fold(group, identity.scales, error_before=before, error_after=before)
    return Fold(group, best.scales, best.alpha, best.beta, best.refined, before, after)


def _worth_trying(candidates: Candidates, identity: Candidate, options: SearchOptions) -> list[Candidate]:
    """The candidates of which enough is expected, the best first."""
    group = candidates.group
    quick = not options.feedback or group.channels <= options.refined_channels
    exponents = options.feedback_exponents if options.feedback else options.nearest_exponents
    ordered = sorted((candidates.by_exponents(*e) for e in exponents), key=candidates.expected)
    if options.feedback and quick and group.experts == 1:
        start = min(identity, *ordered[:1], key=candidates.expected)
        ordered.insert(0, candidates.refined(start, options.refine_steps))
    gain = options.least_gain if quick else options.least_long_gain
    least = (1 - gain) * candidates.expected(identity)
    return [c for c in ordered[: options.tried] if candidates.expected(c) < least]


def _measured(candidate: Candidate, group: FoldGroup, sample: GroupSample, quantize: Quantize) -> float:
    """The error of the sampled rows after the real quantiser."""
    total = 0.0
    for each in sample.inputs:
        scales = candidate.scales[each.own, group.source_of_channel]
        moments = each.rounded.moments.copy()
        scale_moments(moments, scales)
        for sampled in each.rows:
            rows = sampled.rows * scales
            error = rows - quantize(sampled.tensor, rows, moments)
            total += sampled.factor * output_power(error, moments)
    return total
