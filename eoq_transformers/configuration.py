"""The configuration of transformers for folders of EOQ codes."""

from pathlib import Path
from typing import Any

from transformers import AutoConfig, PretrainedConfig
from transformers.quantizers.auto import register_quantization_config
from transformers.utils.quantization_config import QuantizationConfigMixin

from eoq_transformers.description import METHOD, FormatError


@register_quantization_config(METHOD)
class EoqConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """`quantization_config` of a folder (eoq_transformers.description), kept as it is written there."""

    def __init__(self, dequantize: bool = True, **described: Any) -> None:
        """`dequantize`: turn codes into floats on loading; else layers multiply from the codes."""
        described.pop("quant_method", None)
        self.quant_method = METHOD
        self.dequantize = dequantize
        for key, value in described.items():
            setattr(self, key, value)


def model_config(folder: str | Path, *, dequantize: bool, **more: Any) -> PretrainedConfig:
    """What `from_pretrained(folder, config=…)` takes for a folder of EOQ codes, with the way to load it chosen.

    `more` goes to `AutoConfig.from_pretrained`. Raises FormatError for a folder of something else.
    """
    config = AutoConfig.from_pretrained(folder, **more)
    described = getattr(config, "quantization_config", None)
    if not isinstance(described, dict) or described.get("quant_method") != METHOD:
        raise FormatError(f"{folder} is no model of EOQ codes; make one with eoq export-hf")
    described["dequantize"] = dequantize
    return config
