"""Codes to floats in PyTorch, on any device: on the CPU by the numba kernels, elsewhere by PyTorch's own operations.

Both give the same bits: levels are small integers, and sums of 256 of them are exact in float32 whatever their order.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from eoq_formats import kernels
from eoq_formats.codebooks import codebook
from eoq_formats.packing import PLANES
from eoq_formats.reference import LEVEL_UNIT
from eoq_formats.rotation import signs, walsh_hadamard
from eoq_formats.tensors import joined
from eoq_formats.trellis import chain_order, trellis_code
from eoq_formats.types import WeightType

Tensor = torch.Tensor


def rotate(x: Tensor, width: int) -> Tensor:
    """F(D x) of each block of `width` values of float32 rows (…, n), the butterflies in the order of docs/format.md."""
    blocks = x.reshape(*x.shape[:-1], -1, width) * _constants(width, x.device).signs
    stride = 1
    while stride < width:
        pairs = blocks.reshape(*blocks.shape[:-1], width // (2 * stride), 2, stride)
        low, high = pairs[..., 0, :], pairs[..., 1, :]
        blocks = torch.stack((low + high, low - high), dim=-2).reshape(blocks.shape)
        stride *= 2
    return blocks.reshape(x.shape)


def scaled_levels(packed: Tensor, norms: Tensor, t: WeightType) -> Tensor:
    """Rotated weights float32 (rows, n): levels times norms * 2^-12.

    `packed` is uint8 (rows, bytes) and `norms` float16 (rows, blocks), as eoq_formats.tensors splits rows.
    """
    if packed.device.type == "cpu":
        return torch.from_numpy(kernels.scaled_levels(_rows(packed, norms, t), t))
    levels = _levels(packed, norms.shape[-1], t)
    return (levels * _scale(norms)).reshape(packed.shape[0], -1)


def dequantized(packed: Tensor, norms: Tensor, t: WeightType) -> Tensor:
    """Weights float32 (rows, n), the bits of docs/format.md, section 4. Arguments as of `scaled_levels`."""
    if packed.device.type == "cpu":
        return torch.from_numpy(kernels.dequantize(_rows(packed, norms, t), t))
    constants = _constants(t.width, packed.device)
    integers = (_levels(packed, norms.shape[-1], t) @ constants.transform) * constants.signs
    return (integers * _scale(norms)).reshape(packed.shape[0], -1)


def _rows(packed: Tensor, norms: Tensor, t: WeightType) -> NDArray[np.uint8]:
    return joined(packed.numpy(), norms.numpy(), t)


def _scale(norms: Tensor) -> Tensor:
    return norms.float()[..., None] * LEVEL_UNIT


def _levels(packed: Tensor, blocks: int, t: WeightType) -> Tensor:
    """Levels float32 (rows, blocks, width), by PyTorch's operations."""
    codes = _codes(packed.reshape(packed.shape[0], blocks, -1), t)
    tables = _tables(t, packed.device)
    if tables.order is None or tables.place is None:
        return tables.levels[codes]
    code = trellis_code(t.bits)
    chain = codes[..., tables.order]
    own = chain & (2**code.code_bits - 1)
    window = own.clone()
    for age in range(1, code.memory + 1):
        window[..., age:] |= own[..., :-age] << (code.code_bits * age)
    if code.has_free_bit:
        window |= (chain >> code.code_bits) << (code.code_bits * (code.memory + 1))
    return tables.levels[window][..., tables.place]


def _codes(planes: Tensor, t: WeightType) -> Tensor:
    """Planes uint8 (…, bytes) to codes int32 (…, width), as eoq_formats.packing.unpack."""
    codes = torch.zeros((*planes.shape[:-1], t.width), dtype=torch.int32, device=planes.device)
    shift = start = 0
    for bits in PLANES[t.bits]:
        size = bits * t.width // 8
        plane = planes[..., start : start + size]
        parts = [plane >> bits * i & (2**bits - 1) for i in range(8 // bits)]
        # the 1-bit planes of scalar types go along the byte, all others along the plane
        together = torch.stack(parts, dim=-1) if bits == 1 and not t.is_trellis else torch.stack(parts, dim=-2)
        codes |= together.reshape(codes.shape).int() << shift
        start += size
        shift += bits
    return codes


@dataclass(frozen=True)
class _Constants:
    signs: Tensor
    """float32 (width,)."""
    transform: Tensor
    """float32 (width, width), symmetric: F."""


@cache
def _constants(width: int, device: torch.device) -> _Constants:
    transform = walsh_hadamard(np.eye(width, dtype=np.float32))
    return _Constants(_on(signs(width).astype(np.float32), device), _on(transform, device))


@dataclass(frozen=True)
class _Tables:
    levels: Tensor
    """float32: by code of a scalar type; by free bit and window of a trellis type."""
    order: Tensor | None = None
    """int64 (width,): the position of each code of the chain."""
    place: Tensor | None = None
    """int64 (width,): where the chain has each position."""


@cache
def _tables(t: WeightType, device: torch.device) -> _Tables:
    if not t.is_trellis:
        return _Tables(_on(codebook(t.bits).levels.astype(np.float32), device))
    code = trellis_code(t.bits)
    order = chain_order(t.width, code.code_bits)
    levels = code.levels.astype(np.float32).reshape(-1)
    return _Tables(_on(levels, device), _on(order, device), _on(np.argsort(order), device))


def _on(array: NDArray[np.generic], device: torch.device) -> Tensor:
    """Also inside a context that makes all tensors on the meta device."""
    return torch.from_numpy(np.array(array)).to(device)
