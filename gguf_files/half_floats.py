"""Half-precision weights as float32, exactly: NumPy's own conversion of float16 takes ten times as long."""

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.compiled import njit

_SIGN = np.uint32(0x8000)
_MAGNITUDE = np.uint32(0x7FFF)
_EXPONENT = np.uint32(0x7C00)
_FLOAT32_EXPONENT = np.uint32(0x7F800000)
_MANTISSA_SHIFT = np.uint32(23 - 10)
_HALF = np.uint32(16)
_BIAS = np.float32(2.0 ** (127 - 15))


def widen_float16(stored: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Write the values of float16 bits (rows, n) to `out` (rows, n). Infinities and NaN stay what they are."""
    _widen_float16(stored, out.view(np.uint32), out)


def widen_bfloat16(stored: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Write the values of bfloat16 bits (rows, n) to `out` (rows, n)."""
    _widen_bfloat16(stored, out.view(np.uint32))


@njit(parallel=True)
def _widen_float16(stored, bits, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(stored.shape[0]):
        for i in range(stored.shape[1]):
            half = np.uint32(stored[row, i])
            bits[row, i] = (half & _SIGN) << _HALF | (half & _MAGNITUDE) << _MANTISSA_SHIFT
        for i in range(stored.shape[1]):  # the multiplication normalises subnormals too
            out[row, i] *= _BIAS
        for i in range(stored.shape[1]):
            if np.uint32(stored[row, i]) & _EXPONENT == _EXPONENT:
                bits[row, i] |= _FLOAT32_EXPONENT


@njit(parallel=True)
def _widen_bfloat16(stored, bits):  # type: ignore[no-untyped-def]
    for row in numba.prange(stored.shape[0]):
        for i in range(stored.shape[1]):
            bits[row, i] = np.uint32(stored[row, i]) << _HALF
