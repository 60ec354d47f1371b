"""Layers whose weights are codes: they multiply, look up and choose experts without a dense copy of all weights.

A layer keeps its class of PyTorch as a base, and a stand-in for its weight, so that hooks and attributes of the model
stay what they are. Codes are `packed`, uint8 (…, rows, bytes), and `norms`, float16 (…, rows, blocks).
"""

from typing import Any, cast

import torch
from torch import nn

from eoq_formats.errors import EoqError
from eoq_formats.tensors import code_bytes
from eoq_formats.types import WeightType
from eoq_transformers.decoding import dequantized
from eoq_transformers.description import AWQ_SCALES, NORMS, PACKED, Codes
from eoq_transformers.products import dense, product, unscaled

Tensor = torch.Tensor


class CodesBase(nn.Module):
    """What has codes. Casting a model leaves its norms as they are, for they would lose bits."""

    packed: Tensor
    norms: Tensor
    awq_scales: Tensor | None
    eoq_type: WeightType
    eoq_dtype: torch.dtype
    """Of the weights that the model asks for."""

    def _apply(self, fn: Any, recurse: bool = True) -> "CodesBase":
        kept = {name: getattr(self, name) for name in (NORMS, AWQ_SCALES) if getattr(self, name) is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, before in kept.items():
            after = getattr(self, name)
            if after.dtype != before.dtype:
                setattr(self, name, before.to(after.device))
        return self


def absent(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """In place of a weight, for what asks for its shape, dtype and device: one NaN, seen as all of them."""
    value = torch.full((), torch.nan, dtype=dtype, device=device).expand(shape)
    value._is_hf_initialized = True  # type: ignore[attr-defined]  # transformers is not to fill it
    return value


def _absent(codes: CodesBase, rows: int, length: int) -> Tensor:
    return absent(torch.Size((rows, length)), codes.eoq_dtype, codes.packed.device)


class EoqLinear(CodesBase, nn.Linear):
    """x W^T + b by the codes of W: x is rotated once, and W is decoded a few rows at a time."""

    @property
    def weight(self) -> Tensor:
        return _absent(self, self.out_features, self.in_features)

    @weight.setter
    def weight(self, value: object) -> None:
        """Models that tie weights set them; there is none here."""

    def forward(self, x: Tensor) -> Tensor:
        return _product(self, x, self.bias)


class EoqEmbedding(CodesBase, nn.Embedding):
    """The rows of some tokens, decoded."""

    @property
    def weight(self) -> Tensor:
        return _absent(self, self.num_embeddings, self.embedding_dim)

    @weight.setter
    def weight(self, value: object) -> None:
        """As of EoqLinear."""

    def forward(self, input: Tensor) -> Tensor:
        ids = input.reshape(-1)
        rows = dequantized(self.packed[ids], self.norms[ids], self.eoq_type)
        return unscaled(rows, self.awq_scales).to(self.eoq_dtype).reshape(*input.shape, -1)


class TiedHead(nn.Linear):
    """The output matrix of a model that takes its embeddings for it: it has no codes of its own."""

    @property
    def embedding(self) -> CodesBase:
        """No module of this one, so that its codes are saved once."""
        return cast(CodesBase, self.__dict__["eoq_embedding"])

    @property
    def weight(self) -> Tensor:
        return _absent(self.embedding, self.out_features, self.in_features)

    @weight.setter
    def weight(self, value: object) -> None:
        """As of EoqLinear."""

    def forward(self, x: Tensor) -> Tensor:
        return _product(self.embedding, x, self.bias)


class EoqExperts(CodesBase):
    """The matrices of all experts, where a model has them in one parameter: an index decodes one of them."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype) -> None:
        super().__init__()
        self.shape, self.eoq_dtype = shape, dtype

    def __getitem__(self, expert: Any) -> Tensor:
        number = int(expert)
        return dense(self.packed[number], self.norms[number], self.eoq_type, self.eoq_dtype, self.awq_scales)

    def __len__(self) -> int:
        return int(self.shape[0])


def add_codes(module: nn.Module, codes: Codes, shape: torch.Size, device: torch.device) -> None:
    """Give a module room for the codes of weights of this shape."""
    t = codes.type
    blocks = shape[-1] // t.width
    packed = torch.empty((*shape[:-1], blocks * code_bytes(t)), dtype=torch.uint8, device=device)
    norms = torch.empty((*shape[:-1], blocks), dtype=torch.float16, device=device)
    module.register_buffer(PACKED, packed)
    module.register_buffer(NORMS, norms)
    scales = torch.empty(shape[-1], dtype=torch.float16, device=device) if codes.has_scales else None
    module.register_buffer(AWQ_SCALES, scales)
    module.eoq_type = t  # type: ignore[assignment]


def remove_codes(module: nn.Module) -> None:
    for name in (PACKED, NORMS, AWQ_SCALES, "eoq_type"):
        delattr(module, name)


def remove_weight(module: nn.Module) -> None:
    """Have a module without its weight, as far as transformers saves, loads and initialises it."""
    weight = module._parameters.pop("weight")
    assert weight is not None
    module.__dict__["weight"] = absent(weight.shape, weight.dtype, weight.device)


def compute_with_codes(module: nn.Module, name: str) -> None:
    """Have a module whose weight is codes compute with them. Raises EoqError for one that has its own way."""
    cls = type(module)
    own = getattr(cls.forward, "__code__", None)
    for plain, packed in ((nn.Linear, EoqLinear), (nn.Embedding, EoqEmbedding)):
        # a class that is made of PyTorch's asks that to do the work
        if cls is plain or (
            issubclass(cls, plain) and (cls.forward is plain.forward or (own and "super" in own.co_names))
        ):
            _without_weight(module, packed if cls is plain else type(f"Eoq{cls.__name__}", (cls, packed), {}))
            return
    raise _unable(module, name)


def compute_as_head(module: nn.Module, name: str, embedding: nn.Module) -> None:
    """Have the output matrix of a model compute with the codes of its embeddings. Raises EoqError as the above."""
    if type(module) is not nn.Linear:
        raise _unable(module, name)
    module.__dict__["eoq_embedding"] = embedding
    _without_weight(module, TiedHead)


def be_dense(module: nn.Module) -> None:
    """Give a layer the class back that it had before it computed with codes; its weight is still to come."""
    for name in ("eoq_embedding", "weight"):
        module.__dict__.pop(name, None)
    bases = type(module).__mro__
    module.__class__ = next(base for base in bases if base.__module__ != __name__)


def _without_weight(module: nn.Module, cls: type[nn.Module]) -> None:
    module.__dict__.pop("weight", None)
    module.__class__ = cls


def _unable(module: nn.Module, name: str) -> EoqError:
    return EoqError(
        f"{name} is of the class {type(module).__name__}, which cannot work with codes; load the model with "
        "dequantize=True, which is the default"
    )


def weights_of(module: nn.Module, dtype: torch.dtype) -> Tensor:
    """All weights of a module's codes, in floats."""
    holder = cast(CodesBase, module)
    packed, norms = holder.packed, holder.norms
    rows = packed.reshape(-1, packed.shape[-1]), norms.reshape(-1, norms.shape[-1])
    return dense(*rows, holder.eoq_type, dtype, holder.awq_scales).reshape(*norms.shape[:-1], -1)


def _product(codes: CodesBase, x: Tensor, bias: Tensor | None) -> Tensor:
    y = product(x, codes.packed, codes.norms, codes.eoq_type, codes.awq_scales).to(x.device)
    return y if bias is None else y + bias
