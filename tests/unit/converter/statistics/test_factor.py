"""The factorisation that error feedback rounds by and that its error is predicted by, beside plain NumPy."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from converter.statistics.factor import Basis, Factor, factorise, rotation_matrix
from eoq_formats.rotation import rotate

N, WIDTH, DAMPING = 192, 64, 0.02


def moments_of(seed: int = 1) -> NDArray[np.float32]:
    """(n, n), of correlated inputs, of which the last block's are the strongest and the first block's the weakest."""
    random = np.random.default_rng(seed)
    strengths = np.repeat([0.5, 1.0, 2.0], WIDTH) * np.exp(0.5 * random.standard_normal(N))
    inputs = random.standard_normal((500, N)) @ (np.eye(N) + 0.1 * random.standard_normal((N, N))) * strengths
    return np.asarray(inputs.T @ inputs / 500, dtype=np.float32)


def factor_of(moments: NDArray[np.float32], damping: float = DAMPING) -> Factor:
    factor = factorise(torch.from_numpy(moments), Basis(WIDTH), damping)
    assert factor is not None
    return factor


def rotated(moments: NDArray[np.float32]) -> NDArray[np.float64]:
    """R M R' with the rotation of the file format in every block."""
    block = rotate(np.eye(WIDTH, dtype=np.float32)).T / math.sqrt(WIDTH)
    turn = np.kron(np.eye(N // WIDTH), block.astype(np.float64))
    return np.asarray(turn @ moments @ turn.T)


def test_the_factor_gives_the_rotated_ordered_and_damped_moments_back() -> None:
    moments = moments_of()
    factor = factor_of(moments)
    # the blocks with the strongest inputs first
    assert factor.order.tolist() == [2, 1, 0]
    columns = np.concatenate([np.arange(i * WIDTH, (i + 1) * WIDTH) for i in (2, 1, 0)])
    assert factor.columns.tolist() == columns.tolist()
    ridge = DAMPING * np.diagonal(moments).mean()
    assert factor.damping == DAMPING and factor.ridge == pytest.approx(ridge, rel=1e-5)
    expected = rotated(moments)[np.ix_(columns, columns)] + ridge * np.eye(N)
    upper, pivots = factor.unit_upper[0].double().numpy(), factor.pivots[0].double().numpy()
    assert np.array_equal(upper, np.triu(upper)) and np.allclose(np.diagonal(upper), 1, atol=1e-6)
    assert (pivots > 0).all()
    size = np.abs(expected).max()
    assert np.allclose(factor.matrix[0], expected, atol=1e-5 * size)
    assert np.allclose(upper @ np.diag(pivots) @ upper.T, expected, atol=1e-5 * size)


def test_of_a_diagonal_each_block_is_a_part_of_its_own() -> None:
    diagonal = np.ascontiguousarray(np.diagonal(moments_of()))
    parts, whole = factor_of(diagonal), factor_of(np.diag(diagonal))
    assert parts.matrix.shape == (N // WIDTH, WIDTH, WIDTH) and parts.columns.tolist() == list(range(WIDTH))
    assert parts.ridge == pytest.approx(whole.ridge, rel=1e-5)
    for part, place in enumerate(np.argsort(whole.order)):
        own = slice(place * WIDTH, (place + 1) * WIDTH)
        assert np.allclose(parts.matrix[part], whole.matrix[0, own, own], rtol=1e-4, atol=1e-5)
        assert np.allclose(parts.unit_upper[part], whole.unit_upper[0, own, own], atol=1e-4)
        assert np.allclose(parts.pivots[part], whole.pivots[0, own], rtol=1e-3)


def test_damping_grows_tenfold_until_it_is_enough() -> None:
    indefinite = np.eye(N, dtype=np.float32)
    indefinite[0, 1] = indefinite[1, 0] = 1.05  # an eigenvalue of -0.05
    factor = factor_of(indefinite, 0.01)
    assert factor.damping == pytest.approx(0.1) and factor.ridge == pytest.approx(0.1, rel=1e-5)
    assert np.allclose(factor.matrix[0].diagonal().mean(), 1.1)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0])
@pytest.mark.parametrize("diagonal_only", [False, True])
def test_what_cannot_be_factorised(value: float, diagonal_only: bool) -> None:
    moments = np.full(N, value, dtype=np.float32)
    given = moments if diagonal_only else np.where(np.eye(N, dtype=bool), moments, np.float32(0))
    assert factorise(torch.from_numpy(given), Basis(WIDTH), DAMPING) is None


@pytest.mark.parametrize("width", [64, 128])
def test_the_rotation_is_orthogonal_and_that_of_the_format(width: int) -> None:
    rotation = rotation_matrix(Basis(width)).numpy()
    assert np.allclose(rotation @ rotation.T, np.eye(width), atol=1e-6)
    x = np.random.default_rng(2).standard_normal((3, width)).astype(np.float32)
    assert np.allclose(x @ rotation.T, rotate(x) / math.sqrt(width), atol=1e-5)
