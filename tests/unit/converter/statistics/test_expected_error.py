"""Expected rounding errors: what really rounding gives, and slopes that point where the error falls."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.rounding import RoundToNearest
from converter.rounding.block_rounding import FIRST_SCALES, CpuBlockRounding
from converter.rounding.error_feedback import ErrorFeedback, FeedbackOptions
from converter.statistics.expected_error import RoundedInput
from converter.statistics.factor import Basis, factorise
from eoq_formats import kernels
from eoq_formats.codebooks import codebook
from eoq_formats.types import weight_type
from gguf_files.weights import RowWorkers
from tests.samples.memory_model import MemoryStatistics

Vector = NDArray[np.float64]

N, ROWS, WIDTH = 192, 400, 64
DAMPING = 0.02


def example(seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64], Vector, Vector]:
    """Weights (rows, n) and moments (n, n) with channels of very different size, energies, and scales (n,)."""
    random = np.random.default_rng(seed)
    weights = random.standard_normal((ROWS, N)) * np.exp(0.7 * random.standard_normal(N))
    inputs = random.standard_normal((1000, N)) @ random.standard_normal((N, N)) * np.exp(random.standard_normal(N))
    scales = np.exp(0.5 * random.standard_normal(N))
    return weights, inputs.T @ inputs / 1000, (weights**2).sum(axis=0), scales


def rounded_input(moments: NDArray[np.float64], energies: Vector, diagonal_only: bool = False) -> RoundedInput:
    known = np.diagonal(moments) if diagonal_only else moments
    return RoundedInput(known.astype(np.float32), energies, WIDTH)


def nearest_error(weights: NDArray[np.float64], moments: NDArray[np.float64]) -> tuple[float, float]:
    """The error in the outputs, and that of the weights relative to their squares."""
    t = weight_type("eoq4_64")
    given = weights.astype(np.float32)
    error = given - kernels.dequantize(kernels.quantize(given, t).data, t)
    return float(np.einsum("ij,jk,ik->", error, moments, error)), float((error**2).sum() / (weights**2).sum())


def feedback_error(weights: NDArray[np.float64], moments: NDArray[np.float64], bits: int = 4) -> float:
    """tr(E H E') of the first pass of the real error feedback, with H the damped moments, (n, n) or (n,)."""
    given, known = weights.astype(np.float32), moments.astype(np.float32)
    with RowWorkers(1) as workers:
        feedback = ErrorFeedback(
            MemoryStatistics({"other": np.ones((1, N))}), RoundToNearest(workers), FeedbackOptions(DAMPING)
        )
        rounded = feedback.trial(given, weight_type(f"eoq{bits}_64"), known)
    full = np.diag(moments) if moments.ndim == 1 else moments
    damped = full + DAMPING * np.diagonal(full).mean() * np.eye(N)
    errors = given.astype(np.float64) - rounded
    return float(np.einsum("ij,jk,ik->", errors, damped, errors))


def share_left_by_scales(moments: NDArray[np.float64], bits: int, scales: Sequence[float]) -> float:
    """How much of the codebook's error on N(0, 1) is left where each block takes the cheapest of these scales.

    By simulation on Gaussian blocks whose columns count by their conditional variances, without any feedback. Scales
    are relative to the block's own RMS, and a single one already gives a few per cent less than a scale that is fixed.
    """
    factor = factorise(torch.from_numpy(moments.astype(np.float32)), Basis(WIDTH), DAMPING)
    assert factor is not None and factor.damping == DAMPING
    levels = codebook(bits).levels / codebook(bits).factor
    boundaries = (levels[:-1] + levels[1:]) / 2
    random = np.random.default_rng(9)
    pivots = factor.pivots.double().numpy().reshape(-1, WIDTH)
    error = 0.0
    for of_block in pivots:
        block = random.standard_normal((2000, WIDTH))
        costs = []
        for scale in scales:
            unit = scale * np.sqrt((block**2).mean(axis=1, keepdims=True))
            costs.append((block - levels[np.searchsorted(boundaries, block / unit)] * unit) ** 2 @ of_block)
        error += float(np.min(costs, axis=0).mean())
    return error / (codebook(bits).mse * float(pivots.sum()))


def even_example(seed: int = 1) -> tuple[NDArray[np.float64], NDArray[np.float64], Vector, Vector]:
    """The example with normally distributed weights, which the codebook's error is for, rotated or not."""
    _, moments, _, scales = example(seed)
    weights = np.random.default_rng(seed + 100).standard_normal((ROWS, N))
    return weights, moments, (weights**2).sum(axis=0), scales


@pytest.mark.parametrize("scaled", [False, True])
def test_the_error_of_rounding_to_nearest(scaled: bool) -> None:
    weights, moments, energies, scales = example()
    scales = scales if scaled else np.ones(N)
    real, of_weights = nearest_error(weights * scales, moments / np.outer(scales, scales))
    assert rounded_input(moments, energies).nearest(scales) * of_weights == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("bits", [4, 6])
@pytest.mark.parametrize("diagonal_only", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize(
    ("tried", "tolerance"),
    [
        # targets grow by what is pushed onto them (below 2 % with 4 bits), and sums over 400 rows and 192 columns of
        # unequal weight scatter by 1 %; scaled weights are no longer alike, so that a block's RMS scatters more
        ((1.0,), 0.05),
        # which scale is the cheapest also depends on what it pushes on, which the simulation knows nothing of
        (FIRST_SCALES, 0.1),
    ],
    ids=["one scale", "all scales"],
)
def test_the_error_of_error_feedback(
    tried: Sequence[float],
    tolerance: float,
    scaled: bool,
    diagonal_only: bool,
    bits: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CpuBlockRounding, "first_scales", tried)
    weights, moments, energies, scales = even_example()
    scales = scales if scaled else np.ones(N)
    given = moments / np.outer(scales, scales)
    if diagonal_only:
        given = np.diagonal(given)
    real = feedback_error(weights * scales, given, bits)
    expected = rounded_input(moments, energies, diagonal_only).feedback(scales, DAMPING) * codebook(bits).mse
    assert real == pytest.approx(expected * share_left_by_scales(given, bits, tried), rel=tolerance)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_scales_save_is_what_they_really_save(seed: int) -> None:
    """What the search compares, on weights as uneven as a model's. The search for block scales saves about the same on
    either side, so the ratio is left; a tenth is the difference that it makes."""
    weights, moments, energies, _ = example(seed)
    given = rounded_input(moments, energies)
    before = given.feedback(np.ones(N), DAMPING)
    assert before < 0.5 * given.nearest(np.ones(N))
    real = feedback_error(weights, moments)
    for power in (-0.25, -0.5, 0.25):
        scales = (energies / energies.mean()) ** (power / 2)
        expected = given.feedback(scales, DAMPING) / before
        assert abs(math.log(expected)) > 0.1
        found = feedback_error(weights * scales, moments / np.outer(scales, scales)) / real
        assert found == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_slopes_are_those_of_the_error(diagonal_only: bool) -> None:
    _, moments, energies, scales = example()
    given = rounded_input(moments, energies, diagonal_only)
    slopes = given.feedback_slopes(scales, DAMPING)
    assert slopes is not None
    random = np.random.default_rng(2)
    for _ in range(3):
        direction, step = random.standard_normal(N), 3e-3
        ahead = given.feedback(scales * np.exp(step * direction), DAMPING)
        behind = given.feedback(scales * np.exp(-step * direction), DAMPING)
        expected = 2 * ((slopes.weights - slopes.inputs) @ direction)
        assert (ahead - behind) / (2 * step) == pytest.approx(expected, rel=0.02)


def test_a_diagonal_is_a_matrix_with_nothing_else() -> None:
    _, moments, energies, scales = example()
    diagonal = np.diag(np.diagonal(moments))
    alone, full = rounded_input(moments, energies, diagonal_only=True), rounded_input(diagonal, energies)
    assert alone.nearest(scales) == pytest.approx(full.nearest(scales), rel=1e-6)
    assert alone.feedback(scales, DAMPING) == pytest.approx(full.feedback(scales, DAMPING), rel=1e-4)
    one, other = alone.feedback_slopes(scales, DAMPING), full.feedback_slopes(scales, DAMPING)
    assert one is not None and other is not None
    assert np.allclose(one.inputs, other.inputs, rtol=1e-3) and np.allclose(one.weights, other.weights, rtol=1e-3)


def test_scales_of_all_channels_together_change_nothing() -> None:
    _, moments, energies, scales = example()
    given = rounded_input(moments, energies)
    assert given.nearest(8 * scales) == pytest.approx(given.nearest(scales), rel=1e-6)
    assert given.feedback(8 * scales, DAMPING) == pytest.approx(given.feedback(scales, DAMPING), rel=1e-4)


def test_moments_that_cannot_be_factorised() -> None:
    _, moments, energies, scales = example()
    singular = np.ones((N, N)) - 1e-4 * np.eye(N)  # damping helps
    assert math.isfinite(rounded_input(singular, energies).feedback(np.ones(N), 1e-6))
    for hopeless in (np.zeros((N, N)), np.full((N, N), np.nan), -moments):
        given = rounded_input(hopeless, energies)
        assert given.feedback(scales, DAMPING) == math.inf
        assert given.feedback_slopes(scales, DAMPING) is None
