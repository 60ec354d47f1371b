"""PyTorch's own operations, which decode on GPUs, against the kernels of eoq_formats; and layers of codes."""

import numpy as np
import pytest
import torch

import eoq_formats
from eoq_formats import reference
from eoq_formats.rotation import rotate
from eoq_formats.types import WEIGHT_TYPES, WeightType, weight_type
from eoq_transformers import decoding, layers, products
from eoq_transformers.description import Codes


def random_rows(t: WeightType) -> eoq_formats.EoqTensor:
    """Rows of arbitrary codes, all of which mean something, with scales from subnormal to large."""
    random = np.random.default_rng(t.id)
    rows = random.integers(0, 256, (5, 2 * t.block_bytes), dtype=np.uint8)
    scales = np.ldexp(random.random((5, 2)), random.integers(-20, 10, (5, 2))).astype("<f2")
    rows.reshape(5, 2, -1)[..., :2] = scales[..., None].view(np.uint8)
    return eoq_formats.EoqTensor.of_blocks(rows, t)


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_all_bits_are_those_of_the_kernels(t: WeightType) -> None:
    tensor = random_rows(t)
    codes = torch.from_numpy(tensor.packed), torch.from_numpy(tensor.norms), t
    by_kernels = decoding.dequantized(*codes), decoding.scaled_levels(*codes)
    assert np.array_equal(by_kernels[0].numpy(), reference.dequantize(tensor.blocks, t))
    # as on a device that the kernels do not reach
    scale = decoding._scale(codes[1])
    levels = decoding._levels(codes[0], 2, t)
    constants = decoding._constants(t.width, levels.device)
    weights = (levels @ constants.transform) * constants.signs * scale
    assert torch.equal(weights.reshape(5, -1), by_kernels[0])
    assert torch.equal((levels * scale).reshape(5, -1), by_kernels[1])


@pytest.mark.parametrize("width", [64, 128, 256])
def test_rotation_is_that_of_the_format(width: int) -> None:
    x = np.random.default_rng(width).standard_normal((3, 2 * width), dtype=np.float32)
    wanted = rotate(x.reshape(-1, width)).reshape(x.shape)
    assert np.array_equal(decoding.rotate(torch.from_numpy(x), width).numpy(), wanted)


def linear(t: WeightType, rows: int, scales: torch.Tensor | None = None) -> tuple[torch.nn.Linear, torch.Tensor]:
    """A layer of codes, and its weights."""
    weights = np.random.default_rng(1).standard_normal((rows, 256), dtype=np.float32)
    tensor = eoq_formats.quantize(weights, t)
    layer = torch.nn.Linear(256, rows)
    layers.remove_weight(layer)
    layers.add_codes(layer, Codes(t, (rows, 256), scales is not None), torch.Size((rows, 256)), torch.device("cpu"))
    layer.eoq_dtype = torch.float32  # type: ignore[assignment]
    layers.compute_with_codes(layer, "layer")
    parts = {"packed": torch.from_numpy(tensor.packed), "norms": torch.from_numpy(tensor.norms)}
    layer.load_state_dict(parts if scales is None else parts | {"awq_scales": scales}, strict=False)
    return layer, torch.from_numpy(tensor.dequantize()) / (1.0 if scales is None else scales.float())


@pytest.mark.parametrize("name", ["eoq3", "eoq5t"])
@pytest.mark.parametrize("has_scales", [False, True])
def test_a_layer_of_codes_multiplies(name: str, has_scales: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of a few rows; the error of float32 sums is bounded by terms times 2^-24 of the magnitudes."""
    monkeypatch.setattr(products, "WEIGHTS_AT_ONCE", 3 * 256)
    scales = torch.linspace(0.5, 2, 256).half() if has_scales else None
    layer, weights = linear(weight_type(name), 10, scales)
    x = torch.randn(2, 3, 256, generator=torch.Generator().manual_seed(0))
    wanted = x.double() @ weights.double().T + layer.bias.double()
    # 256 products and up to 8 butterflies a value, on each side of the rotation
    bound = 2 * (256 + 16) * 2**-24 * x.double().norm(dim=-1, keepdim=True) * weights.double().norm(dim=-1)
    assert ((layer(x).double() - wanted).abs() <= bound + 2**-22).all()
    assert torch.equal(layers.weights_of(layer, torch.float32), weights)


def test_casting_a_model_leaves_norms_alone() -> None:
    layer, _ = linear(weight_type("eoq4"), 4)
    before = layer.state_dict()["norms"].clone()
    layer.to(torch.bfloat16)
    after = layer.state_dict()["norms"]
    assert after.dtype == torch.float16 and torch.equal(after, before)
    assert layer.bias.dtype == torch.bfloat16
    assert set(layer.state_dict()) == {"packed", "norms", "bias"}
