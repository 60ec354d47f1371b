"""How vLLM's layers with codes are made, loaded and computed with: as floats, or as they are.

vLLM calls a method to make the parameters of a layer, which it then loads by `weight_loader` of each, to finish them
once all are loaded, and to compute. The names of functions and arguments are vLLM's (0.33.0).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from vllm.model_executor.layers.linear import LinearBase, LinearMethodBase, UnquantizedLinearMethod
from vllm.model_executor.layers.quantization.base_config import QuantizeMethodBase
from vllm.model_executor.layers.vocab_parallel_embedding import (
    ParallelLMHead,
    UnquantizedEmbeddingMethod,
    VocabParallelEmbedding,
)

from eoq_transformers import products
from eoq_transformers.description import FormatError
from eoq_vllm import operators
from eoq_vllm.parts import Types, parts_of
from eoq_vllm.room import Held, Room, held_by, hold

Tensor = torch.Tensor

Layer = Any
"""A module of vLLM, with attributes that PyTorch's modules need not have."""


def is_embedding(layer: nn.Module) -> bool:
    """Whether a layer is embeddings, and no output matrix, which vLLM makes one of them."""
    return isinstance(layer, VocabParallelEmbedding) and not isinstance(layer, ParallelLMHead)


def method_for(
    layer: Layer, prefix: str, names: Sequence[str], types: Types, dequantize: bool
) -> QuantizeMethodBase | None:
    """The method of a layer that has the codes of `names`; None for one that vLLM is to make as it does without us.

    Raises FormatError for a layer with codes that is neither linear nor an embedding.
    """
    is_linear = isinstance(layer, LinearBase)
    if names and (is_linear or isinstance(layer, VocabParallelEmbedding)):
        method = DequantizedMethod if dequantize else PackedMethod
        return method(prefix, names, types, UnquantizedLinearMethod if is_linear else UnquantizedEmbeddingMethod)
    if is_linear:
        return UnquantizedLinearMethod()
    if isinstance(layer, ParallelLMHead):
        return HeadWithoutCodes()
    below = next((name for name in types if name == prefix or name.startswith(f"{prefix}.")), None)
    if below is not None:
        raise FormatError(
            f"{below} has codes, and vLLM has it in a {type(layer).__name__}, for which this plugin has no way to load "
            "them; load the model with transformers"
        )
    return None


class EoqMethod(LinearMethodBase):  # type: ignore[misc]
    """What both ways have in common: parameters for the codes."""

    def __init__(self, prefix: str, names: Sequence[str], types: Types, plain: type[QuantizeMethodBase]) -> None:
        """`plain` is vLLM's method for such a layer without codes."""
        self._prefix, self._names, self._types, self._plain = prefix, names, types, plain

    def create_weights(
        self,
        layer: Layer,
        input_size_per_partition: int,
        output_partition_sizes: list[int],
        input_size: int,
        output_size: int,
        params_dtype: torch.dtype,
        **extra_weight_attrs: Any,
    ) -> None:
        """Raises FormatError where codes of this layer cannot be split as vLLM splits it."""
        parts = parts_of(self._prefix, self._names, output_partition_sizes, self._types)
        is_split = input_size_per_partition != input_size
        start = int(layer.tp_rank) * input_size_per_partition if is_split else 0
        room = Room(parts, input_size, slice(start, start + input_size_per_partition))
        room.add_to(layer, extra_weight_attrs["weight_loader"])
        layer.eoq_room = room
        layer.eoq_dtype = params_dtype

    def process_weights_after_loading(self, layer: Layer) -> None:
        """Raises FormatError where codes did not come. The output matrix may have asked for it before vLLM does."""
        room: Room | None = layer.__dict__.pop("eoq_room", None)
        if room is not None:
            self._finish(layer, room.take(layer))

    def _finish(self, layer: Layer, held: Sequence[Held]) -> None:
        raise NotImplementedError

    def apply(self, layer: Layer, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x W^T + bias."""
        raise NotImplementedError(f"{self._prefix} is not loaded")

    def embedding(self, layer: Layer, input_: Tensor) -> Tensor:
        """The rows of some tokens."""
        raise NotImplementedError(f"{self._prefix} is not loaded")


class DequantizedMethod(EoqMethod):
    """Turns the codes into floats once they are loaded; from then on the layer is one of vLLM's own."""

    def _finish(self, layer: Layer, held: Sequence[Held]) -> None:
        dtype: torch.dtype = layer.__dict__.pop("eoq_dtype")
        matrices = [products.dense(one.packed, one.norms, one.type, dtype, one.scales) for one in held]
        weight = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
        layer.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
        layer.quant_method = self._plain()
        layer.quant_method.process_weights_after_loading(layer)


class PackedMethod(EoqMethod):
    """Computes from the codes."""

    def _finish(self, layer: Layer, held: Sequence[Held]) -> None:
        hold(layer, held)

    def apply(self, layer: Layer, x: Tensor, bias: Tensor | None = None) -> Tensor:
        parts = [operators.multiply(x, h.packed, h.norms, h.type.name, h.scales) for h in held_by(layer)]
        y: Tensor = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return y if bias is None else y + bias

    def embedding(self, layer: Layer, input_: Tensor) -> Tensor:
        (h,) = held_by(layer)
        rows: Tensor = operators.look_up(input_, h.packed, h.norms, h.type.name, h.scales, layer.eoq_dtype)
        return rows


class HeadWithoutCodes(UnquantizedEmbeddingMethod):  # type: ignore[misc]
    """Of an output matrix in floats, unless it is the embeddings, and they have codes."""

    def tie_weights(self, layer: Layer, embed_tokens: Layer) -> Layer:
        if not isinstance(embed_tokens.quant_method, EoqMethod):
            return super().tie_weights(layer, embed_tokens)
        delattr(layer, "weight")
        layer.quant_method = TiedHeadMethod(embed_tokens)
        return layer


class TiedHeadMethod(LinearMethodBase):  # type: ignore[misc]
    """Of an output matrix that is the embeddings."""

    def __init__(self, embed_tokens: Layer) -> None:
        self._embed_tokens = embed_tokens

    def create_weights(self, layer: Layer, *weight_args: Any, **extra_weight_attrs: Any) -> None:
        """The embeddings have them."""

    def process_weights_after_loading(self, layer: Layer) -> None:
        embeddings = self._embed_tokens
        embeddings.quant_method.process_weights_after_loading(embeddings)
        if not isinstance(embeddings.quant_method, EoqMethod):  # they are floats now
            layer.weight = embeddings.weight
            layer.quant_method = UnquantizedEmbeddingMethod()
            layer.quant_method.process_weights_after_loading(layer)

    def apply(self, layer: Layer, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self._embed_tokens.quant_method.apply(self._embed_tokens, x, bias)
        return y
