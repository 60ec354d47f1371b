"""Converts models to GGUF files with EOQ tensor types."""

from converter.calibration_options import CalibrationOptions
from converter.options import ConversionOptions
from converter.pipeline import convert, dry_run
from converter.progress import Progress
from converter.report import ConversionReport, TensorRecord

__all__ = [
    "CalibrationOptions",
    "ConversionOptions",
    "ConversionReport",
    "Progress",
    "TensorRecord",
    "convert",
    "dry_run",
]
