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
from eoq_vllm.room import Room, held_by, hold

Tensor = torch.Tensor


def method_for(
    layer: nn.Module, prefix: str, names: Sequence[str], types: Types, dequantize: bool
) -> QuantizeMethodBase | None:
    """The method of a layer that has the codes of `names`; None for one that vLLM is to make as it does without us.

    Raises FormatError for a layer with codes that is neither linear nor an embedding.
    """
    is_linear, is_embedding = isinstance(layer, LinearBase), isinstance(layer, VocabParallelEmbedding)
    if names and (is_linear or is_embedding):
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
        layer: nn.Module,
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
        start = int(layer.tp_rank) * input_size_per_partition if is_split else 0  # type: ignore[arg-type]
        room = Room(parts, input_size, slice(start, start + input_size_per_partition))
        room.add_to(layer, extra_weight_attrs["weight_loader"])
        layer.eoq_room = room  # type: ignore[assignment]
        layer.eoq_dtype = params_dtype  # type: ignore[assignment]

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        raise NotImplementedError

    def embedding(self, layer: nn.Module, input_: Tensor) -> Tensor:
        raise NotImplementedError


class DequantizedMethod(EoqMethod):
    """Turns the codes into floats once they are loaded; from then on the layer is one of vLLM's own."""

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        room: Room | None = layer.__dict__.pop("eoq_room", None)
        if room is None:
            return
        held = room.take(layer)
        dtype: torch.dtype = layer.__dict__.pop("eoq_dtype")
        matrices = [products.dense(one.packed, one.norms, one.type, dtype, one.scales) for one in held]
        weight = matrices[0] if len(matrices) == 1 else torch.cat(matrices)
        layer.register_parameter("weight", nn.Parameter(weight, requires_grad=False))
        layer.quant_method = self._plain()
        layer.quant_method.process_weights_after_loading(layer)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        raise _too_early(self._prefix)

    def embedding(self, layer: nn.Module, input_: Tensor) -> Tensor:
        raise _too_early(self._prefix)


class PackedMethod(EoqMethod):
    """Computes from the codes."""

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        room: Room | None = layer.__dict__.pop("eoq_room", None)
        if room is not None:
            hold(layer, room.take(layer))

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        parts = [operators.multiply(x, h.packed, h.norms, h.type.name, h.scales) for h in held_by(layer)]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return y if bias is None else y + bias

    def embedding(self, layer: nn.Module, input_: Tensor) -> Tensor:
        (h,) = held_by(layer)
        dtype: torch.dtype = layer.eoq_dtype  # type: ignore[assignment]
        return operators.look_up(input_, h.packed, h.norms, h.type.name, h.scales, dtype)


class HeadWithoutCodes(UnquantizedEmbeddingMethod):  # type: ignore[misc]
    """Of an output matrix in floats, unless it is the embeddings, and they have codes."""

    def tie_weights(self, layer: nn.Module, embed_tokens: nn.Module) -> nn.Module:
        if not isinstance(embed_tokens.quant_method, EoqMethod):
            tied: nn.Module = super().tie_weights(layer, embed_tokens)
            return tied
        delattr(layer, "weight")
        layer.quant_method = TiedHeadMethod(embed_tokens)
        return layer


class TiedHeadMethod(LinearMethodBase):  # type: ignore[misc]
    """Of an output matrix that is the embeddings."""

    def __init__(self, embed_tokens: nn.Module) -> None:
        self._embed_tokens = embed_tokens

    def create_weights(self, layer: nn.Module, *weight_args: Any, **extra_weight_attrs: Any) -> None:
        """The embeddings have them."""

    def process_weights_after_loading(self, layer: nn.Module) -> None:
        embeddings = self._embed_tokens
        embeddings.quant_method.process_weights_after_loading(embeddings)  # type: ignore[union-attr, operator]
        if not isinstance(embeddings.quant_method, EoqMethod):  # they are floats now
            layer.weight = embeddings.weight
            layer.quant_method = UnquantizedEmbeddingMethod()
            layer.quant_method.process_weights_after_loading(layer)

    def apply(self, layer: nn.Module, x: Tensor, bias: Tensor | None = None) -> Tensor:
        y: Tensor = self._embed_tokens.quant_method.apply(self._embed_tokens, x, bias)  # type: ignore[union-attr, operator]
        return y


def _too_early(name: str) -> FormatError:
    return FormatError(f"{name} is used before its codes are loaded; load the model with vLLM's own loader")
