"""The transform, the signs and the planes, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from eoq_formats import WEIGHT_TYPES, WeightType
from eoq_formats.packing import pack, unpack
from eoq_formats.rotation import rotate, signs, unrotate_levels, walsh_hadamard


@pytest.mark.parametrize("width", [64, 128, 256])
def test_the_transform_is_the_sylvester_matrix(width: int) -> None:
    x = np.random.default_rng(1).integers(-127, 128, (20, width))
    assert (walsh_hadamard(x) == x @ hadamard(width)).all()


@pytest.mark.parametrize("width", [64, 128, 256])
def test_rotating_unrotated_levels_gives_them_back_times_the_width(width: int) -> None:
    levels = np.random.default_rng(2).integers(-127, 128, (20, width)).astype(np.int8)
    # all partial sums are below 2^24, so float32 is exact here
    assert (rotate(unrotate_levels(levels).astype(np.float32)) == width * levels.astype(np.float32)).all()


def machin(bits: int) -> int:
    """The first bits of pi after the binary point: 16 arctan(1/5) - 4 arctan(1/239), with 64 bits more on the way."""

    def arctan(inverse: int) -> int:
        term = one // inverse
        total, n, sign = term, 3, -1
        while term:
            term //= inverse * inverse
            total += sign * (term // n)
            n, sign = n + 2, -sign
        return total

    one = 1 << (bits + 64)
    return (16 * arctan(5) - 4 * arctan(239) - 3 * one) >> 64


def test_the_signs_are_those_of_pi() -> None:
    pi = machin(256)
    words = [pi >> (224 - 32 * i) & 0xFFFFFFFF for i in range(8)]
    expected = [-1 if words[i // 32] >> (i % 32) & 1 else 1 for i in range(256)]
    assert signs(256).tolist() == expected
    assert signs(128).tolist() == expected[:128]
    assert signs(64).tolist() == expected[:64]


@given(t=st.sampled_from(WEIGHT_TYPES), seed=st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(t: WeightType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**t.bits, (3, t.width), dtype=np.uint8)
    planes = pack(codes, t)
    assert planes.shape == (3, t.bits * t.width // 8)
    assert (unpack(planes, t) == codes).all()
    data = rng.integers(0, 256, planes.shape, dtype=np.uint8)
    assert (pack(unpack(data, t), t) == data).all()


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_planes_lie_as_the_specification_draws_them(t: WeightType) -> None:
    width, low_bits = t.width, 2 if t.bits < 4 else 4
    for i in (0, 1, 7, 8, width // 4, width // 2 - 1, width // 2, width - 1):
        codes = np.zeros(width, dtype=np.uint8)
        codes[i] = 2**t.bits - 1
        expected = np.zeros(t.bits * width // 8, dtype=np.uint8)
        low_bytes = low_bits * width // 8
        expected[i % low_bytes] = (2**low_bits - 1) << low_bits * (i // low_bytes)
        for plane in range(t.bits - low_bits):
            byte, bit = (i % (width // 8), i // (width // 8)) if t.is_trellis else (i // 8, i % 8)
            expected[low_bytes + plane * width // 8 + byte] = 1 << bit
        assert (pack(codes, t) == expected).all()
