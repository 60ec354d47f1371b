"""From weights to the bytes of a tensor: to nearest, or with error feedback."""

from converter.rounding.error_feedback import ErrorFeedback
from converter.rounding.nearest import RoundToNearest
from converter.rounding.rows import RoundedRows, Rounding, WeightedError, copy_rows, row_chunks

__all__ = [
    "ErrorFeedback",
    "RoundToNearest",
    "RoundedRows",
    "Rounding",
    "WeightedError",
    "copy_rows",
    "row_chunks",
]
