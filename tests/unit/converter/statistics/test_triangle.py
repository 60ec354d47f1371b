"""Packed symmetric matrices."""

import numpy as np
import pytest

from converter.statistics import triangle
from converter.statistics.triangle import pack, packed_length, unpack


@pytest.mark.parametrize("n", [1, 2, 255, 256, 257, 700])
def test_a_matrix_comes_back(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triangle, "_PIECE", 1000)
    matrix = np.random.default_rng(n).standard_normal((n, n)).astype(np.float32)
    matrix += matrix.T
    upper = np.where(np.tri(n, k=-1, dtype=bool), np.float32(np.nan), matrix)  # the lower part is not looked at
    packed = np.concatenate([piece.copy() for piece in pack(upper, 2)])
    assert packed.shape == (packed_length(n),)
    assert (unpack(packed, n) == 2 * matrix).all()


def test_rows_follow_one_another() -> None:
    matrix = np.arange(9, dtype=np.float32).reshape(3, 3)
    assert np.concatenate(list(pack(matrix))).tolist() == [0, 1, 2, 4, 5, 8]
