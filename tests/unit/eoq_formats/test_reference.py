"""What the reference quantiser promises: errors, fixed points, hand-made blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoq_formats import WEIGHT_TYPES, WeightType, kernels, reference, weight_type
from eoq_formats.codebooks import codebook
from eoq_formats.packing import pack
from eoq_formats.trellis import trellis_code
from eoq_formats.types import SCALAR_TYPES, TRELLIS_TYPES
from tests.unit.eoq_formats.sample_blocks import Samples, gaussian

each_type = pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
each_scalar_type = pytest.mark.parametrize("t", SCALAR_TYPES, ids=lambda t: t.name)
scalar_types = st.sampled_from(SCALAR_TYPES)


@each_type
def test_the_error_on_gaussian_weights_is_at_or_just_below_the_codebooks(t: WeightType) -> None:
    x = 0.02 * gaussian(np.random.default_rng(3), 8192, t.width)
    data = kernels.quantize(x, t).data if t.is_trellis else reference.quantize(x, t)  # the same bytes, much sooner
    y = reference.dequantize(data, t)
    error = np.square(x - y, dtype=np.float64).sum() / np.square(x, dtype=np.float64).sum()
    if t.is_trellis:
        # narrow blocks begin without a history more often: 10 % at most
        assert 0.98 * trellis_code(t.bits).mse < error < 1.11 * trellis_code(t.bits).mse
    else:
        # a scale fitted to each block's own codes gains at most 13 %; the sample's own spread is below 0.5 %
        assert 0.87 * codebook(t.bits).mse < error < 1.005 * codebook(t.bits).mse


@pytest.mark.parametrize(("name", "decibels"), [("eoq2t", 11.2), ("eoq3t", 16.95), ("eoq4t", 22.6), ("eoq5t", 28.6)])
def test_a_trellis_has_the_error_that_it_is_there_for(name: str, decibels: float) -> None:
    """On numbers that no search for the tables has seen."""
    t = weight_type(name)
    packed = kernels.quantize(gaussian(np.random.default_rng(20261127), 2048, t.width), t)
    relative = float(packed.error.sum() / packed.signal.sum())
    assert -10 * np.log10(relative) > decibels
    assert relative == pytest.approx(trellis_code(t.bits).mse, rel=0.02)


@each_scalar_type
def test_what_was_quantised_quantises_to_itself(t: WeightType) -> None:
    samples = Samples.draw(np.random.default_rng(4), 24, t.width)
    data = reference.quantize(samples.x, t)
    again = reference.quantize(reference.dequantize(data, t), t)
    assert samples.families_where(again != data) == []


@given(t=scalar_types, seed=st.integers(0, 2**32 - 1), scale=st.integers(0x0400, 0x7BFF), few=st.integers(1, 64))
def test_random_valid_blocks_keep_their_weights(t: WeightType, seed: int, scale: int, few: int) -> None:
    """Any block that a file may hold quantises to one that stands for the same weights, and that one to itself."""
    rng = np.random.default_rng(seed)
    alphabet = rng.integers(0, 2**t.bits, few)  # few distinct codes make equal descriptions likely
    planes = pack(rng.choice(alphabet, (1, t.width)).astype(np.uint8), t)
    block = np.concatenate((np.array([[scale & 0xFF, scale >> 8]], dtype=np.uint8), planes), axis=1)
    weights = reference.dequantize(block, t)
    data = reference.quantize(weights, t)
    assert (reference.dequantize(data, t) == weights).all()
    assert (reference.quantize(reference.dequantize(data, t), t) == data).all()


@each_scalar_type
def test_a_hand_made_block_reads_as_specified(t: WeightType) -> None:
    # one code differs from its mirror image: the transform of a constant plus an impulse is known by hand
    top = 2**t.bits - 1
    codes = np.zeros((1, t.width), dtype=np.uint8)
    codes[0, 0] = top
    block = np.concatenate((np.array([[0x00, 0x3C]], dtype=np.uint8), pack(codes, t)), axis=1)  # d = 1
    level = int(codebook(t.bits).levels[top])
    integers = np.full(t.width, 2 * level)
    integers[0] = 2 * level - t.width * level
    from_pi = [
        1 if not word >> i & 1 else -1 for word in (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344) for i in range(32)
    ]
    expected = (integers * np.array(from_pi[: t.width])).astype(np.float32) * np.float32(2.0**-12)
    assert (reference.dequantize(block, t)[0] == expected).all()


@pytest.mark.parametrize("t", TRELLIS_TYPES, ids=lambda t: t.name)
def test_levels_of_a_trellis_are_those_of_the_specification(t: WeightType) -> None:
    """Weight by weight, by the formulas of docs/format.md."""
    rng = np.random.default_rng(8)
    block = rng.integers(0, 256, (1, t.block_bytes), dtype=np.uint8)
    plane_bits = 2 if t.bits < 4 else 4
    plane_bytes = plane_bits * t.width // 8
    plane, free_bits = block[0, 2 : 2 + plane_bytes], block[0, 2 + plane_bytes :]
    code = trellis_code(t.bits)
    chain, places = [], []
    for column in range(min(plane_bytes, 32)):
        for byte in range(column, plane_bytes, 32):
            for field in range(8 // plane_bits):
                chain.append(int(plane[byte]) >> plane_bits * field & (2**plane_bits - 1))
                places.append(field * plane_bytes + byte)

    def swapped(c: int) -> int:
        return c >> 1 | (c & 1) << 1

    expected = np.zeros(t.width, dtype=int)
    for step, place in enumerate(places):
        c0, c1, c2, c3, c4 = (chain[step - age] if step >= age else 0 for age in range(5))
        free = int(free_bits[place % (t.width // 8)]) >> place // (t.width // 8) & 1 if t.bits % 2 else 0
        if plane_bits == 2:
            a, b = c0 ^ swapped(c3) ^ c4, c1 ^ swapped(c2) ^ swapped(c3)
            expected[place] = code.first[16 * free + 4 * b + a]
        else:
            mixed = sum(((c1 & mask).bit_count() & 1) << i for i, mask in enumerate(code.masks))
            expected[place] = int(code.first[16 * free + c0]) + int(code.second[c2 ^ mixed])
    assert reference.scales_and_levels(block, t)[1][0].tolist() == expected.tolist()


@each_type
def test_zero_blocks_are_zero_bytes(t: WeightType) -> None:
    data = reference.quantize(np.zeros((2, t.width), dtype=np.float32), t)
    assert not data.any()
    assert not reference.dequantize(data, t).any()


@each_type
def test_a_scale_beyond_fp16_saturates(t: WeightType) -> None:
    data = reference.quantize(np.full((1, t.width), 1e30, dtype=np.float32), t)
    assert data[0, :2].view("<f2")[0] == np.float16(65504)


def test_a_constant_block_costs_no_more_than_a_gaussian_one() -> None:
    """The signs spread a constant over the block, where one huge coefficient would be clipped."""
    t = weight_type("eoq4")
    x = np.ones((1, t.width), dtype=np.float32)
    error = np.square(x - reference.dequantize(reference.quantize(x, t), t)).mean()
    assert error < 2 * codebook(4).mse


def test_activations_of_a_rotated_impulse_are_exact() -> None:
    t = weight_type("eoq4").activation
    x = np.zeros((1, 128), dtype=np.float32)
    x[0, 0] = 3.0
    block = reference.quantize_activations(x, t)[0]
    assert block[:4].view("<f4")[0] == np.float32(3) / np.float32(127)
    assert (block[8:].view(np.int8) == 127).all()  # sign 0 is +, and the first column of F is all ones
    assert block[4:8].view("<i4")[0] == 127 * 128


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_activations_without_a_finite_rotation_poison_the_product(bad: float) -> None:
    t = weight_type("eoq4")
    x = np.zeros((1, 128), dtype=np.float32)
    x[0, :2] = bad  # twice 3e38 overflows in the transform
    activations = reference.quantize_activations(x, t.activation)
    assert not activations[0, 4:].any()
    weights = reference.quantize(gaussian(np.random.default_rng(5), 1, 128), t)
    with np.errstate(invalid="ignore"):
        assert np.isnan(reference.dot(weights, activations, t))


@each_type
def test_the_dot_product_is_that_of_the_weights(t: WeightType) -> None:
    rng = np.random.default_rng(6)
    w, x = gaussian(rng, 1, 4 * t.width), gaussian(rng, 1, 4 * t.width)
    data, activations = reference.quantize(w, t), reference.quantize_activations(x, t.activation)
    exact = float(reference.dequantize(data, t)[0].astype(np.float64) @ x[0])
    # int8 rounding of the activations: each rotated value is off by at most half a step
    step = activations.reshape(4, -1)[:, :4].copy().view("<f4").max()
    d, levels = reference.scales_and_levels(data, t)
    bound = 0.5 * step * float((np.abs(levels).sum(axis=1) * d.astype(float) * 2.0**-12).sum())
    assert abs(float(reference.dot(data, activations, t)) - exact) <= 1.001 * bound
