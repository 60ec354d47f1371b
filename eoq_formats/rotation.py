"""The rotation of a block: a fixed pattern of signs, then the unnormalised Walsh-Hadamard transform."""

from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.number[Any])

SIGN_WORDS: tuple[int, ...] = (
    *(0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
    *(0xA4093822, 0x299F31D0, 0x082EFA98, 0xEC4E6C89),
)
"""The first 256 fractional bits of pi. Bit i % 32 (from the lowest up) of word i // 32 set: sign i is -1."""


@cache
def signs(width: int) -> NDArray[np.int8]:
    """int8 (width,), each 1 or -1: the diagonal D. A narrow pattern is the start of a wider one."""
    bits = [SIGN_WORDS[i // 32] >> (i % 32) & 1 for i in range(width)]
    pattern = np.array([-1 if bit else 1 for bit in bits], dtype=np.int8)
    pattern.flags.writeable = False
    return pattern


def walsh_hadamard(x: NDArray[Number]) -> NDArray[Number]:
    """Unnormalised transform in natural (Sylvester) order over the last axis, whose length is a power of two.

    Butterflies of stride 1, 2, 4, ... in the dtype of `x`: the order is part of the format where x is float32.
    """
    width = x.shape[-1]
    stride = 1
    while stride < width:
        pairs = x.reshape(*x.shape[:-1], width // (2 * stride), 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        x = np.stack((low + high, low - high), axis=-2).reshape(x.shape)
        stride *= 2
    return x


def rotate(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """F(D x) of float32 blocks (..., width): what codes approximate and what activations are multiplied with."""
    return walsh_hadamard(x * signs(x.shape[-1]).astype(np.float32))


def unrotate_levels(levels: NDArray[np.int8]) -> NDArray[np.int32]:
    """D F(levels) of int8 blocks (..., width), exact integers of magnitude at most width * 127."""
    return np.multiply(signs(levels.shape[-1]), walsh_hadamard(levels.astype(np.int32)), dtype=np.int32)
