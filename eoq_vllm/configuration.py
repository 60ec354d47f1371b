"""The quantisation `eoq` as vLLM asks for it: which layers have codes, and the method of each.

It needs vLLM, and registers itself. The methods are imported when the first layer asks for one, for vLLM's layers take
long to import and this file is read in each of its processes.
"""

from typing import Any

import torch
from vllm.model_executor.layers.quantization import register_quantization_config
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig, QuantizeMethodBase

from eoq_transformers.description import METHOD, FormatError, read_description
from eoq_vllm.parts import Types, embeddings_of, names_of

OVERRIDE = "eoq_dequantize"
"""An entry of the model's configuration that goes before `dequantize` of its quantization_config."""


@register_quantization_config(METHOD)
class EoqConfig(QuantizationConfig):  # type: ignore[misc]
    """`quantization_config` of a folder of codes (eoq_transformers.description)."""

    def __init__(self, types: Types, dequantize: bool) -> None:
        """`types` by layer of the checkpoint; `dequantize`: turn codes into floats on loading."""
        super().__init__()
        self.types = types
        self.dequantize = dequantize

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "EoqConfig":
        """Raises FormatError, also for a vLLM that is too old."""
        if not hasattr(QuantizeMethodBase, "tie_weights"):
            raise FormatError(
                "this vLLM has no QuantizeMethodBase.tie_weights, which models need whose output matrix is their "
                "embeddings; install a newer one: the plugin is written for 0.33.0"
            )
        return cls(read_description(config), _as_bool("dequantize", config.get("dequantize", True)))

    @classmethod
    def get_name(cls) -> str:
        return METHOD

    @classmethod
    def get_supported_act_dtypes(cls) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        """PyTorch's own operations decode, and run on every GPU that vLLM does."""
        return 0

    @staticmethod
    def get_config_filenames() -> list[str]:
        return []  # it is in config.json

    def maybe_update_config(self, model_name: str, hf_config: Any = None, revision: str | None = None) -> None:
        """Takes the way to load from `--hf-overrides`. Raises FormatError."""
        override = getattr(hf_config, OVERRIDE, None)
        if override is not None:
            self.dequantize = _as_bool(OVERRIDE, override)

    def apply_vllm_mapper(self, hf_to_vllm_mapper: Any) -> None:
        """Names of the checkpoint to vLLM's."""
        self.types = hf_to_vllm_mapper.apply_dict(dict(self.types))

    def get_quant_method(self, layer: torch.nn.Module, prefix: str) -> QuantizeMethodBase | None:
        """Raises FormatError for a layer with codes of a kind that cannot have any."""
        from eoq_vllm.methods import is_embedding, method_for

        if not prefix and is_embedding(layer):
            names = embeddings_of(self.types)
        else:
            names = names_of(prefix, self.packed_modules_mapping, self.types)
        return method_for(layer, prefix, names, self.types, self.dequantize)


def _as_bool(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise FormatError(f"{name} of the model's configuration is {value!r:.80}, and should be true or false")
    return value
