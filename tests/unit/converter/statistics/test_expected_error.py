"""Expected rounding errors: what really rounding gives, and slopes that point where the error falls."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.statistics.expected_error import RoundedInput
from eoq_formats import kernels
from eoq_formats.codebooks import codebook
from eoq_formats.rotation import rotate
from eoq_formats.types import weight_type

Vector = NDArray[np.float64]

N, ROWS, WIDTH = 192, 400, 64
DAMPING = 0.02
MSE_OF_4_BITS = 0.009501
"""Mean squared error of the 4-bit Lloyd-Max quantiser on N(0, 1)."""


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


def rotation() -> NDArray[np.float64]:
    """The orthogonal matrix (n, n) of the rotation of every block."""
    block = rotate(np.eye(WIDTH, dtype=np.float32)).T / math.sqrt(WIDTH)
    return np.kron(np.eye(N // WIDTH), block.astype(np.float64))


def nearest_error(weights: NDArray[np.float64], moments: NDArray[np.float64]) -> tuple[float, float]:
    """The error in the outputs, and that of the weights relative to their squares."""
    t = weight_type("eoq4_64")
    given = weights.astype(np.float32)
    error = given - kernels.dequantize(kernels.quantize(given, t).data, t)
    return float(np.einsum("ij,jk,ik->", error, moments, error)), float((error**2).sum() / (weights**2).sum())


def feedback_error(weights: NDArray[np.float64], moments: NDArray[np.float64]) -> float:
    """Column by column in plain NumPy, blocks with the largest inputs first, scales from each block's RMS."""
    turn = rotation()
    weights, moments = weights @ turn.T, turn @ moments @ turn.T
    order = np.argsort(-np.diagonal(moments).reshape(-1, WIDTH).sum(axis=1), kind="stable")
    columns = (order[:, None] * WIDTH + np.arange(WIDTH)).reshape(-1)
    weights, moments = weights[:, columns], moments[np.ix_(columns, columns)]
    damped = moments + DAMPING * np.diagonal(moments).mean() * np.eye(N)
    factor = np.linalg.cholesky(damped[::-1, ::-1])[::-1, ::-1]
    unit = factor / np.diagonal(factor)
    levels = codebook(4).levels / codebook(4).factor
    errors = np.zeros_like(weights)
    for column in range(N):
        if column % WIDTH == 0:
            block = slice(column, column + WIDTH)
            target = weights[:, block] + errors[:, :column] @ unit[:column, block]
            scale = np.sqrt((target**2).mean(axis=1, keepdims=True))
        wanted = weights[:, column] + errors[:, :column] @ unit[:column, column]
        nearest = np.abs(wanted[:, None] - levels * scale).argmin(axis=1)
        errors[:, column] = weights[:, column] - levels[nearest] * scale[:, 0]
    return float(np.einsum("ij,jk,ik->", errors, damped, errors))


@pytest.mark.parametrize("scaled", [False, True])
def test_the_error_of_rounding_to_nearest(scaled: bool) -> None:
    weights, moments, energies, scales = example()
    scales = scales if scaled else np.ones(N)
    real, of_weights = nearest_error(weights * scales, moments / np.outer(scales, scales))
    assert rounded_input(moments, energies).nearest(scales) * of_weights == pytest.approx(real, rel=0.05)


@pytest.mark.parametrize("scaled", [False, True])
def test_the_error_of_error_feedback(scaled: bool) -> None:
    weights, moments, energies, scales = example()
    scales = scales if scaled else np.ones(N)
    real = feedback_error(weights * scales, moments / np.outer(scales, scales))
    expected = rounded_input(moments, energies).feedback(scales, DAMPING)
    assert expected < 0.5 * rounded_input(moments, energies).nearest(scales)
    # targets grow a little by what is pushed onto them, and the scale is not searched
    assert expected * MSE_OF_4_BITS == pytest.approx(real, rel=0.1)


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
