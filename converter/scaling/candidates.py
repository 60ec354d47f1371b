"""Candidates for the scales of a group, and what rounding is expected to cost under them."""

from dataclasses import dataclass

import numpy as np

from converter.scaling.fold_groups import FoldGroup
from converter.scaling.sample import GroupSample, Vector, by_source
from gguf_files.weights import Floats

_PRIOR_TOKENS = 32
"""Tokens with evenly spread energy that a channel's mean square is taken together with: few tokens say little."""
_STEP = 0.25
"""Power of the slopes' ratio in a step. Under rounding to nearest it would lead to the optimum at once."""
_LEAST_ENERGY = 1e-6
"""Least energy of a channel, relative to the mean: dead channels must not get extreme scales."""


@dataclass
class Candidate:
    """Scales, and where they come from."""

    scales: Floats
    """float32 (experts, sources)"""
    alpha: float = 0.0
    beta: float = 0.0
    refined: bool = False
    expected: float | None = None
    """None until it is computed."""


@dataclass(frozen=True)
class Candidates:
    """Makes candidates for one group."""

    group: FoldGroup
    sample: GroupSample
    feedback: bool
    """Whether weights are rounded with error feedback and not to nearest."""
    damping: float
    """What is added to the diagonal of the moments, relative to its mean, under error feedback."""
    greatest_scale: float
    device: str

    def none(self) -> Candidate:
        """No scales: all 1."""
        return Candidate(np.ones((self.group.experts, self.group.sources), dtype=np.float32))

    def by_exponents(self, alpha: float, beta: float) -> Candidate:
        """m^alpha / w^beta, with m and w the root mean square of the inputs and of the weights of each channel."""
        mean = self.sample.mean_squares.mean(axis=1, keepdims=True)
        tokens = self.sample.tokens
        squares = (tokens * self.sample.mean_squares + _PRIOR_TOKENS * mean) / (tokens + _PRIOR_TOKENS)
        scales = _floored(squares) ** (alpha / 2) / _floored(self.sample.weight_energies) ** (beta / 2)
        return Candidate(self._in_range(scales), alpha, beta)

    def expected(self, candidate: Candidate) -> float:
        """The error of the sampled rows over that of the codebook on N(0, 1)."""
        if candidate.expected is None:
            candidate.expected = 0.0
            for each in self.sample.inputs:
                scales = candidate.scales[each.own, self.group.source_of_channel].astype(np.float64)
                if self.feedback:
                    candidate.expected += each.rounded.feedback(scales, self.damping, self.device)
                else:
                    candidate.expected += each.rounded.nearest(scales)
        return candidate.expected

    def refined(self, start: Candidate, steps: int) -> Candidate:
        """Where the slopes of the expected error under feedback lead."""
        best, step = start, _STEP
        for _ in range(steps):
            inputs, weights = np.zeros(self.group.sources), np.zeros(self.group.sources)
            for each in self.sample.inputs:
                scales = best.scales[0, self.group.source_of_channel].astype(np.float64)
                slopes = each.rounded.feedback_slopes(scales, self.damping, self.device)
                if slopes is None:
                    return best
                inputs += by_source(self.group, slopes.inputs)
                weights += by_source(self.group, slopes.weights)
            # at the optimum both are equal for every scale
            ratio = np.clip(_floored(inputs) / _floored(weights), 1e-3, 1e3)
            moved = Candidate(
                self._in_range((best.scales[0] * ratio**step)[None]), start.alpha, start.beta, refined=True
            )
            if self.expected(moved) < self.expected(best):
                best = moved
            else:
                step /= 2
        return best

    def _in_range(self, scales: Vector) -> Floats:
        """Geometric mean 1 for each expert, and nothing extreme."""
        scales = scales / np.exp(np.log(scales).mean(axis=1, keepdims=True))
        return np.clip(scales, 1 / self.greatest_scale, self.greatest_scale).astype(np.float32)


def _floored(values: Vector) -> Vector:
    """Values with the least that a channel can have, relative to the mean over the last axis."""
    floored: Vector = np.maximum(values, _LEAST_ENERGY * values.mean(axis=-1, keepdims=True) + 1e-300)
    return floored
