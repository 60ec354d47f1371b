"""Operators of PyTorch for codes that stay codes: torch.compile, which vLLM uses, takes each as a whole.

A type is given by its name; all else is as in eoq_transformers.products.
"""

import torch

from eoq_formats.types import weight_type
from eoq_transformers import products
from eoq_transformers.decoding import dequantized

Tensor = torch.Tensor


@torch.library.custom_op("eoq::multiply", mutates_args=())
def multiply(x: Tensor, packed: Tensor, norms: Tensor, type: str, scales: Tensor | None) -> Tensor:
    """x W^T for inputs (…, row length): (…, rows) in their dtype."""
    return products.product(x, packed, norms, weight_type(type), scales)


@multiply.register_fake
def _(x: Tensor, packed: Tensor, norms: Tensor, type: str, scales: Tensor | None) -> Tensor:
    return x.new_empty((*x.shape[:-1], packed.shape[0]))


@torch.library.custom_op("eoq::look_up", mutates_args=())
def look_up(ids: Tensor, packed: Tensor, norms: Tensor, type: str, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The rows of `ids`, of any shape, in `dtype`: (…, row length)."""
    flat = ids.reshape(-1)
    rows = dequantized(packed[flat], norms[flat], weight_type(type))
    return products.unscaled(rows, scales).to(dtype).reshape(*ids.shape, -1)


@look_up.register_fake
def _(ids: Tensor, packed: Tensor, norms: Tensor, type: str, scales: Tensor | None, dtype: torch.dtype) -> Tensor:
    return norms.new_empty((*ids.shape, norms.shape[-1] * weight_type(type).width), dtype=dtype)
