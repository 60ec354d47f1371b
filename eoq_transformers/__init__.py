"""Models of EOQ codes in transformers: importing this makes `from_pretrained` read them, without remote code."""

from eoq_transformers.configuration import EoqConfig, model_config
from eoq_transformers.description import FormatError
from eoq_transformers.quantizer import EoqQuantizer

__all__ = ["EoqConfig", "EoqQuantizer", "FormatError", "model_config"]
