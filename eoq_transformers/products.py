"""Products with codes, and codes in floats: a few rows at a time, so that memory holds few floats beside them.

`packed` is uint8 (rows, bytes) and `norms` float16 (rows, blocks), as eoq_formats.tensors splits rows. `scales`,
float16 (row length), are those that the columns were multiplied by before rounding; None where they were not.
"""

import torch

from eoq_formats.types import WeightType
from eoq_transformers.decoding import dequantized, rotate, scaled_levels

Tensor = torch.Tensor

WEIGHTS_AT_ONCE = 1 << 20
"""Weights in floats at a time: 4 MiB."""


def dense(
    packed: Tensor, norms: Tensor, t: WeightType, dtype: torch.dtype = torch.float32, scales: Tensor | None = None
) -> Tensor:
    """All weights (rows, row length) in `dtype`, rounded to it once, after the scales are gone."""
    length = norms.shape[-1] * t.width
    weights = torch.empty((packed.shape[0], length), dtype=dtype, device=packed.device)
    for rows in _pieces(packed.shape[0], length):
        weights[rows] = unscaled(dequantized(packed[rows], norms[rows], t), scales).to(dtype)
    return weights


def product(x: Tensor, packed: Tensor, norms: Tensor, t: WeightType, scales: Tensor | None = None) -> Tensor:
    """x W^T for inputs (…, row length), in their dtype, on the codes' device: x is rotated once, in float32."""
    inputs = unscaled(x.to(packed.device).float(), scales)
    rotated = rotate(inputs.reshape(-1, inputs.shape[-1]), t.width)
    y = torch.empty((rotated.shape[0], packed.shape[0]), dtype=x.dtype, device=packed.device)
    for rows in _pieces(packed.shape[0], rotated.shape[-1]):
        y[:, rows] = (rotated @ scaled_levels(packed[rows], norms[rows], t).T).to(x.dtype)
    return y.reshape(*x.shape[:-1], -1)


def unscaled(values: Tensor, scales: Tensor | None) -> Tensor:
    """Float32 (…, row length) divided by the scales."""
    return values if scales is None else values / scales.float()


def _pieces(rows: int, length: int) -> list[slice]:
    step = max(1, WEIGHTS_AT_ONCE // length)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]
