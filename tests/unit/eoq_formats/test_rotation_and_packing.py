"""The transform, the signs and the planes, against their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import hadamard

from eoq_formats.packing import pack, unpack
from eoq_formats.rotation import rotate, signs, unrotate_levels, walsh_hadamard


@pytest.mark.parametrize("width", [64, 128])
def test_the_transform_is_the_sylvester_matrix(width: int) -> None:
    x = np.random.default_rng(1).integers(-127, 128, (20, width))
    assert (walsh_hadamard(x) == x @ hadamard(width)).all()


@pytest.mark.parametrize("width", [64, 128])
def test_rotating_unrotated_levels_gives_them_back_times_the_width(width: int) -> None:
    levels = np.random.default_rng(2).integers(-127, 128, (20, width)).astype(np.int8)
    # all partial sums are below 2^24, so float32 is exact here
    assert (rotate(unrotate_levels(levels).astype(np.float32)) == width * levels.astype(np.float32)).all()


def test_the_signs_are_those_of_pi() -> None:
    pi_fraction = 0x243F6A8885A308D313198A2E03707344  # 128 bits after the binary point
    words = [pi_fraction >> (96 - 32 * i) & 0xFFFFFFFF for i in range(4)]
    expected = [-1 if words[i // 32] >> (i % 32) & 1 else 1 for i in range(128)]
    assert signs(128).tolist() == expected
    assert signs(64).tolist() == expected[:64]


@given(bits=st.sampled_from([2, 3, 4, 5, 6]), width=st.sampled_from([64, 128]), seed=st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(bits: int, width: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**bits, (3, width), dtype=np.uint8)
    planes = pack(codes, bits)
    assert planes.shape == (3, bits * width // 8)
    assert (unpack(planes, bits) == codes).all()
    data = rng.integers(0, 256, planes.shape, dtype=np.uint8)
    assert (pack(unpack(data, bits), bits) == data).all()


@pytest.mark.parametrize("width", [64, 128])
def test_planes_lie_as_the_specification_draws_them(width: int) -> None:
    for bits, low_bits in ((2, 2), (3, 2), (4, 4), (5, 4), (6, 4)):
        for i in (0, 1, 7, 8, width // 4, width // 2 - 1, width // 2, width - 1):
            codes = np.zeros(width, dtype=np.uint8)
            codes[i] = 2**bits - 1
            expected = np.zeros(bits * width // 8, dtype=np.uint8)
            low_bytes = low_bits * width // 8
            expected[i % low_bytes] = (2**low_bits - 1) << low_bits * (i // low_bytes)
            for plane in range(bits - low_bits):
                expected[low_bytes + plane * width // 8 + i // 8] = 1 << i % 8
            assert (pack(codes, bits) == expected).all()
