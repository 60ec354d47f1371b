"""Numba kernels and C kernels give the bytes and the floats of the NumPy reference."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from eoq_formats import ACTIVATION_TYPES, WEIGHT_TYPES, WeightType, kernels, reference
from tests.unit.eoq_formats.c_library import CKernels
from tests.unit.eoq_formats.sample_blocks import Samples

each_type = pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)


def bits(x: NDArray[np.float32]) -> NDArray[np.int32]:
    return x.view(np.int32)


def extreme_operands(t: WeightType, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Packed blocks with d = 2^12 and activations with scale 1, so that a float dot product is the integer sum."""
    count = 200
    weights = rng.integers(0, 256, (count, t.block_bytes), dtype=np.uint8)
    weights[:20, 2:] = 0  # all codes 0: the lowest level
    weights[20:40, 2:] = 255  # all codes at the top
    weights[:, :2] = np.array([2.0**12], dtype="<f2").view(np.uint8)
    q = rng.integers(-127, 128, (count, t.width)).astype(np.int8)
    q[0:40:2] = 127
    q[1:40:2] = -127
    activations = np.zeros((count, t.activation.block_bytes), dtype=np.uint8)
    activations[:, :4] = np.array([1.0], dtype="<f4").view(np.uint8)
    activations[:, 4:8] = q.sum(axis=1, dtype=np.int32).astype("<i4")[:, None].view(np.uint8)
    activations[:, 8:] = q.view(np.uint8)
    return weights, activations


@dataclass(frozen=True)
class Truth:
    """Samples and what the reference makes of them."""

    samples: Samples
    data: NDArray[np.uint8]
    weights: NDArray[np.float32]
    activations: NDArray[np.uint8]
    sums: NDArray[np.int32]


@cache
def truth(t: WeightType) -> Truth:
    # the plain version of a trellis' search takes a hundred times as long
    samples = Samples.draw(np.random.default_rng(7), 1 if t.is_trellis else 24, t.width)
    data = reference.quantize(samples.x, t)
    activations = reference.quantize_activations(samples.x, t.activation)
    sums = reference.integer_dots(data, activations, t)
    return Truth(samples, data, reference.dequantize(data, t), activations, sums)


@each_type
def test_numba_equals_the_reference(t: WeightType) -> None:
    true = truth(t)
    wrong = true.samples.families_where
    assert wrong(kernels.quantize(true.samples.x, t).data != true.data) == []
    assert wrong(bits(kernels.dequantize(true.data, t)) != bits(true.weights)) == []
    assert wrong(kernels.quantize_activations(true.samples.x, t.activation) != true.activations) == []
    assert wrong(kernels.integer_dots(true.data, true.activations, t)[:, 0] != true.sums) == []


@each_type
def test_c_equals_the_reference(t: WeightType, c_kernels: CKernels) -> None:
    true = truth(t)
    wrong = true.samples.families_where
    assert wrong(c_kernels.quantize(true.samples.x, t) != true.data) == []
    for prefix in ("", "ggml_eoq_"):
        assert wrong(bits(c_kernels.dequantize(true.data, t, prefix)) != bits(true.weights)) == [], prefix
    for variant in ("", "_generic"):
        activations = c_kernels.quantize_activations(true.samples.x, t.activation, variant)
        assert wrong(activations != true.activations) == [], variant


@each_type
@pytest.mark.parametrize("variant", ["", "_generic"])
def test_c_integer_sums_are_exact(t: WeightType, variant: str, c_kernels: CKernels) -> None:
    weights, activations = extreme_operands(t, np.random.default_rng(9))
    expected = reference.integer_dots(weights, activations, t)
    assert (kernels.integer_dots(weights, activations, t)[:, 0] == expected).all()
    for row in range(len(weights)):
        assert c_kernels.dot(weights[row], activations[row], t, variant) == expected[row]


@each_type
def test_c_dot_products_over_many_blocks_agree(t: WeightType, c_kernels: CKernels) -> None:
    rng = np.random.default_rng(10)
    n = 40 * t.width
    w, x = rng.standard_normal((1, n)).astype(np.float32), rng.standard_normal((1, n)).astype(np.float32)
    weights, activations = kernels.quantize(w, t).data, kernels.quantize_activations(x, t.activation)
    sums = reference.integer_dots(weights, activations, t).astype(np.float64)
    d, _ = reference.scales_and_levels(weights, t)
    a = activations.reshape(40, -1)[:, :4].copy().view("<f4")[:, 0]
    terms = d.astype(np.float64) * 2.0**-12 * a * sums
    # 40 blocks of at most 32 partial sums: fewer than 80 float32 roundings of numbers no larger than the sum of all
    bound = 80 * 2.0**-24 * 32 * np.abs(terms).sum()
    for variant in ("", "_generic"):
        assert abs(c_kernels.dot(weights[0], activations[0], t, variant) - terms.sum()) <= bound


@each_type
def test_blocks_that_cannot_be_stored_are_marked_alike(t: WeightType, c_kernels: CKernels) -> None:
    x = np.random.default_rng(15).standard_normal((5, t.width)).astype(np.float32)
    x[1, 0], x[2, -1], x[3, 7] = np.nan, np.inf, -np.inf
    expected = reference.quantize(x, t)
    scales = expected[:, :2].copy().view("<f2")[:, 0]
    assert np.isnan(scales).tolist() == [False, True, True, True, False]
    assert not expected[1:4, 2:].any()
    assert (kernels.quantize(x, t).data == expected).all()
    assert (c_kernels.quantize(x, t) == expected).all()


def test_non_finite_activations_agree(c_kernels: CKernels) -> None:
    x = np.zeros((4, 256), dtype=np.float32)
    x[0, 3], x[1, 0], x[2, 255] = np.nan, np.inf, -np.inf
    x[3, :] = 3e38
    for t in ACTIVATION_TYPES:
        expected = reference.quantize_activations(x, t).reshape(-1, t.block_bytes)
        results = [kernels.quantize_activations(x, t)]
        results += [c_kernels.quantize_activations(x, t, variant) for variant in ("", "_generic")]
        for result in results:
            blocks = result.reshape(-1, t.block_bytes)
            assert (blocks[:, 4:] == expected[:, 4:]).all()
            scale, wanted = blocks[:, :4].copy().view("<f4"), expected[:, :4].copy().view("<f4")
            assert np.array_equal(scale, wanted, equal_nan=True)


@each_type
def test_the_reported_error_is_that_of_the_packed_weights(t: WeightType) -> None:
    x = np.random.default_rng(11).standard_normal((8, 5 * t.width)).astype(np.float32)
    packed = kernels.quantize(x, t)
    difference = np.square(reference.dequantize(packed.data, t).astype(np.float64) - x).sum(axis=1)
    np.testing.assert_allclose(packed.error, difference, rtol=1e-4)  # float32 rounding of both transforms
    np.testing.assert_allclose(packed.signal, np.square(x.astype(np.float64)).sum(axis=1), rtol=1e-5)


@each_type
def test_status_tells_bad_rows(t: WeightType) -> None:
    x = np.random.default_rng(12).standard_normal((5, 3 * t.width)).astype(np.float32)
    x[1, 5], x[2, -1], x[3, t.width :] = np.nan, np.inf, 1e30
    assert kernels.quantize(x, t).status.tolist() == [
        kernels.STATUS_OK,
        kernels.STATUS_NON_FINITE,
        kernels.STATUS_NON_FINITE,
        kernels.STATUS_SCALE_OVERFLOW,
        kernels.STATUS_OK,
    ]


def test_bytes_do_not_depend_on_the_number_of_threads() -> None:
    t = WEIGHT_TYPES[2]
    x = np.random.default_rng(13).standard_normal((64, 8 * t.width)).astype(np.float32)
    results = []
    for threads in (1, 2, 1000):
        kernels.set_threads(threads)
        packed = kernels.quantize(x, t)
        results.append((packed.data.tobytes(), packed.error.tobytes()))
    assert len(set(results)) == 1


def test_wrong_shapes_are_refused() -> None:
    t = WEIGHT_TYPES[2]
    with pytest.raises(ValueError, match="multiple of 128"):
        kernels.quantize(np.zeros((1, 100), dtype=np.float32), t)
    with pytest.raises(ValueError, match="multiples of 66 bytes"):
        kernels.dequantize(np.zeros((1, 65), dtype=np.uint8), t)
    with pytest.raises(ValueError, match="multiple of 128"):
        kernels.quantize_activations(np.zeros((1, 100), dtype=np.float32), t.activation)
    with pytest.raises(ValueError, match="do not match"):
        kernels.integer_dots(np.zeros((1, 66), dtype=np.uint8), np.zeros((1, 135), dtype=np.uint8), t)
