"""A symmetric matrix as its upper triangle, row after row: half the bytes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_PIECE = 1 << 20
_BLOCK = 256


def packed_length(n: int) -> int:
    """Values in the upper triangle of an (n, n) matrix."""
    return n * (n + 1) // 2


def pack(matrix: Floats, scale: float = 1.0) -> Iterator[Floats]:
    """The upper triangle of `matrix` (n, n) times `scale`, in pieces; what lies below the diagonal is not looked at.

    A piece is valid until the next.
    """
    n = len(matrix)
    buffer = np.empty(max(_PIECE, n), dtype=np.float32)
    filled = 0
    for i in range(n):
        if filled + n - i > len(buffer):
            yield buffer[:filled]
            filled = 0
        np.multiply(matrix[i, i:], np.float32(scale), out=buffer[filled : filled + n - i])
        filled += n - i
    yield buffer[:filled]


def unpack(packed: Floats, n: int) -> Floats:
    """The whole matrix (n, n) of a packed triangle (n (n + 1) / 2,)."""
    matrix = np.empty((n, n), dtype=np.float32)
    start = 0
    for i in range(n):
        matrix[i, i:] = packed[start : start + n - i]
        start += n - i
    for i in range(0, n, _BLOCK):
        stop = min(i + _BLOCK, n)
        corner = np.triu(matrix[i:stop, i:stop])
        matrix[i:stop, i:stop] = corner + np.triu(corner, 1).T
        matrix[stop:, i:stop] = matrix[i:stop, stop:].T
    return matrix
