"""What the plugin takes from vLLM, for where it is not installed: bases, and layers that load as vLLM's do.

Names and arguments are those of vLLM 0.33.0; tests/unit/eoq_vllm/test_vllm_itself.py holds them against it. A layer
asks `Ranks` which device it is on, where vLLM asks its process group.
"""

import sys
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

Tensor = torch.Tensor


class Ranks:
    rank, size = 0, 1


class QuantizeMethodBase:
    def tie_weights(self, layer: nn.Module, embed_tokens: nn.Module) -> nn.Module:
        layer.weight = embed_tokens.weight
        return layer

    def process_weights_after_loading(self, layer: nn.Module) -> None: ...


class QuantizationConfig:
    def __init__(self) -> None:
        self.packed_modules_mapping: dict[str, list[str]] = {}


class LinearMethodBase(QuantizeMethodBase): ...


class _Unquantized(QuantizeMethodBase):
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
        shape = sum(output_partition_sizes), input_size_per_partition
        layer.weight = nn.Parameter(torch.empty(shape, dtype=params_dtype), requires_grad=False)

    def apply(self, layer: Any, x: Tensor, bias: Tensor | None = None) -> Tensor:
        return nn.functional.linear(x, layer.weight, bias)


class UnquantizedLinearMethod(_Unquantized, LinearMethodBase): ...


class UnquantizedEmbeddingMethod(_Unquantized):
    def embedding(self, layer: Any, input_: Tensor) -> Tensor:
        return nn.functional.embedding(input_, layer.weight)


class _Layer(nn.Module):
    def _make(self, config: Any, prefix: str, here: int, length: int, rows: list[int], plain: Any) -> None:
        self.tp_rank, self.tp_size = Ranks.rank, Ranks.size
        self.quant_method = config.get_quant_method(self, prefix=prefix) or plain
        self.quant_method.create_weights(
            layer=self,
            input_size_per_partition=here,
            output_partition_sizes=rows,
            input_size=length,
            output_size=sum(rows) * Ranks.size,
            params_dtype=torch.get_default_dtype(),
            weight_loader=self.weight_loader,
        )

    def weight_loader(self, param: nn.Parameter, loaded_weight: Tensor) -> None:
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        return self.quant_method.apply(self, x, None), None


class LinearBase(_Layer): ...


class MergedColumnParallelLinear(LinearBase):
    def __init__(
        self, input_size: int, output_sizes: list[int], bias: bool = True, quant_config: Any = None, prefix: str = ""
    ) -> None:
        super().__init__()
        self._rows = [size // Ranks.size for size in output_sizes]
        self._make(quant_config, prefix, input_size, input_size, self._rows, None)

    def weight_loader(
        self, param: nn.Parameter, loaded_weight: Tensor, loaded_shard_id: int | tuple[int, ...] | None = None
    ) -> None:
        if not isinstance(loaded_shard_id, int):  # several in one
            numbers = range(len(self._rows)) if loaded_shard_id is None else loaded_shard_id
            sizes = [self._rows[number] * self.tp_size for number in numbers]
            for number, part in zip(numbers, torch.split(loaded_weight, sizes), strict=True):
                self.weight_loader(param, part, number)
            return
        rows = self._rows[loaded_shard_id]
        own = loaded_weight.narrow(0, self.tp_rank * rows, rows)
        param.data.narrow(0, sum(self._rows[:loaded_shard_id]), rows).copy_(own)


class QKVParallelLinear(LinearBase):
    def __init__(
        self,
        hidden_size: int,
        head_size: int,
        total_num_heads: int,
        total_num_kv_heads: int | None = None,
        bias: bool = True,
        quant_config: Any = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        kv_heads = total_num_kv_heads or total_num_heads
        self._replicas = max(1, Ranks.size // kv_heads)
        kv_rows = max(1, kv_heads // Ranks.size) * head_size
        self._rows = {"q": total_num_heads // Ranks.size * head_size, "k": kv_rows, "v": kv_rows}
        self._make(quant_config, prefix, hidden_size, hidden_size, list(self._rows.values()), None)

    def weight_loader(self, param: nn.Parameter, loaded_weight: Tensor, loaded_shard_id: str | None = None) -> None:
        assert loaded_shard_id is not None
        rank = self.tp_rank if loaded_shard_id == "q" else self.tp_rank // self._replicas
        rows, before = self._rows[loaded_shard_id], "qkv".partition(loaded_shard_id)[0]
        own = loaded_weight.narrow(0, rank * rows, rows)
        param.data.narrow(0, sum(self._rows[shard] for shard in before), rows).copy_(own)


class RowParallelLinear(LinearBase):
    def __init__(
        self, input_size: int, output_size: int, bias: bool = True, quant_config: Any = None, prefix: str = ""
    ) -> None:
        super().__init__()
        self._make(quant_config, prefix, input_size // Ranks.size, input_size, [output_size], None)

    def weight_loader(self, param: nn.Parameter, loaded_weight: Tensor) -> None:
        columns = param.shape[param.input_dim]  # type: ignore[attr-defined]
        param.data.copy_(loaded_weight.narrow(1, self.tp_rank * columns, columns))


class VocabParallelEmbedding(_Layer):
    def __init__(self, num_embeddings: int, embedding_dim: int, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__()
        rows = -(-num_embeddings // 64) * 64 // Ranks.size
        self._make(quant_config, prefix, embedding_dim, embedding_dim, [rows], UnquantizedEmbeddingMethod())

    def weight_loader(self, param: nn.Parameter, loaded_weight: Tensor) -> None:
        own = loaded_weight[self.tp_rank * len(param) : (self.tp_rank + 1) * len(param)]
        param.data[: len(own)] = own
        param.data[len(own) :] = 0


class ParallelLMHead(VocabParallelEmbedding):
    def tie_weights(self, embed_tokens: VocabParallelEmbedding) -> Any:
        return self.quant_method.tie_weights(self, embed_tokens)


def install(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Has `import vllm…` find these. Returns the configurations that are registered from then on, by name."""
    registered: dict[str, type] = {}

    def register_quantization_config(quantization: str) -> Any:
        return lambda config: registered.setdefault(quantization, config)

    layers = "vllm.model_executor.layers"
    modules: dict[str, tuple[Any, ...]] = {
        "vllm": (),
        "vllm.model_executor": (),
        layers: (),
        f"{layers}.quantization": (register_quantization_config,),
        f"{layers}.quantization.base_config": (QuantizationConfig, QuantizeMethodBase),
        f"{layers}.linear": (LinearBase, LinearMethodBase, UnquantizedLinearMethod),
        f"{layers}.vocab_parallel_embedding": (ParallelLMHead, UnquantizedEmbeddingMethod, VocabParallelEmbedding),
    }
    for name, content in modules.items():
        module = ModuleType(name)
        for one in content:
            setattr(module, one.__name__, one)
        monkeypatch.setitem(sys.modules, name, module)
    return registered
