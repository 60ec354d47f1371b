"""Whole tensors of codes, for programs that call EOQ as a library."""

from eoq_formats.tensors.apart import code_bytes, joined, split
from eoq_formats.tensors.eoq_tensor import EoqTensor, dequantize, quantize

__all__ = ["EoqTensor", "code_bytes", "dequantize", "joined", "quantize", "split"]
