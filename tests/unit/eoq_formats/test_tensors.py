"""Whole tensors of codes: the library's own quantize and dequantize."""

import numpy as np
import pytest
import torch

import eoq_formats
from eoq_formats import EoqError, EoqTensor, NonFiniteWeightError, ScaleOverflowError, kernels, reference
from eoq_formats.types import WEIGHT_TYPES, WeightType

WEIGHTS = np.random.default_rng(0).standard_normal((2, 3, 256), dtype=np.float32)


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_codes_and_scales_apart_are_the_blocks_of_a_file(t: WeightType) -> None:
    tensor = eoq_formats.quantize(WEIGHTS, t)
    rows = reference.quantize(WEIGHTS.reshape(6, 256), t)
    assert tensor.shape == WEIGHTS.shape and tensor.nbytes == rows.nbytes
    assert np.array_equal(tensor.blocks.reshape(6, -1), rows)
    assert np.array_equal(eoq_formats.dequantize(tensor).reshape(6, -1), reference.dequantize(rows, t))
    assert EoqTensor.of_blocks(tensor.blocks, t) == tensor != EoqTensor(~tensor.packed, tensor.norms, t)
    d, levels = reference.scales_and_levels(rows, t)
    scaled = levels.astype(np.float32) * (d.astype(np.float32) * np.float32(2**-12))[:, None]
    assert np.array_equal(kernels.scaled_levels(rows, t), scaled.reshape(6, -1))


def test_tensors_of_pytorch_and_widths() -> None:
    half = torch.from_numpy(WEIGHTS).bfloat16()
    assert eoq_formats.quantize(half, "EOQ4") == eoq_formats.quantize(half.float().numpy(), "eoq4")
    assert eoq_formats.quantize(WEIGHTS[..., :64], "eoq4t").type.name == "EOQ4T_64"
    assert eoq_formats.quantize(WEIGHTS, "eoq4_64").type.name == "EOQ4_64"


def test_what_cannot_be_rounded_is_refused() -> None:
    with pytest.raises(EoqError, match="rows of 100 weights are no whole blocks of EOQ4"):
        eoq_formats.quantize(np.zeros((2, 100)), "eoq4")
    with pytest.raises(EoqError, match="has no values"):
        eoq_formats.quantize(np.zeros((0, 64)), "eoq4")
    with pytest.raises(NonFiniteWeightError, match="NaN or infinite"):
        eoq_formats.quantize(np.full(64, np.nan), "eoq4")
    with pytest.raises(ScaleOverflowError, match="larger scale"):
        eoq_formats.quantize(np.full(64, 1e30), "eoq2")
    with pytest.raises(ValueError, match="go with codes"):
        EoqTensor(np.zeros(3, np.uint8), np.zeros(1, np.float16), WEIGHT_TYPES[0])
