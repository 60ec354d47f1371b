"""Converts models to GGUF files with EOQ tensor types."""

from converter.options import ConversionOptions
from converter.pipeline import convert
from converter.progress import Progress
from converter.report import ConversionReport, TensorRecord

__all__ = ["ConversionOptions", "ConversionReport", "Progress", "TensorRecord", "convert"]
