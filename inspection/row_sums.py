"""Sums over the rows of two matrices at once."""

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.compiled import njit
from gguf_files.weights import Floats

Sums = NDArray[np.float64]


class RowSums(NamedTuple):
    """Of rows x, y: float64 (rows,) each, or sums over rows of them."""

    xx: Sums
    xy: Sums
    yy: Sums
    error: Sums
    """Of (x - y)²."""


def row_sums(x: Floats, y: Floats) -> RowSums:
    """Sums over each row of float32 (rows, n)."""
    sums = np.empty((4, len(x)))
    _row_sums(x, y, sums)
    return RowSums(*sums)


@njit(parallel=True, nogil=True)
def _row_sums(x, y, sums):  # type: ignore[no-untyped-def]
    for row in numba.prange(x.shape[0]):
        xx = xy = yy = error = 0.0
        for i in range(x.shape[1]):
            a, b = np.float64(x[row, i]), np.float64(y[row, i])
            xx += a * a
            xy += a * b
            yy += b * b
            error += (a - b) * (a - b)
        sums[0, row], sums[1, row], sums[2, row], sums[3, row] = xx, xy, yy, error
