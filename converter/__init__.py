"""Converts models to GGUF files with EOQ tensor types."""

from converter.options import (
    CalibrationOptions,
    CalibrationText,
    ConversionOptions,
    RoundingOptions,
    SourceAccess,
    TypeOptions,
)
from converter.pipeline import convert, dry_run
from converter.plan.planners import Budget, BudgetRequest
from converter.report import ConversionProgress, ConversionReport, TensorRecord

__all__ = [
    "Budget",
    "BudgetRequest",
    "CalibrationOptions",
    "CalibrationText",
    "ConversionOptions",
    "ConversionProgress",
    "ConversionReport",
    "RoundingOptions",
    "SourceAccess",
    "TensorRecord",
    "TypeOptions",
    "convert",
    "dry_run",
]
