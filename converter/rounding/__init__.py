"""From weights to the bytes of a tensor: to nearest, or with error feedback.

The latter is in converter.rounding.error_feedback, and not here: it loads PyTorch.
"""

from converter.rounding.nearest import RoundToNearest
from converter.rounding.rounded_rows import RoundedRows, Rounding, WeightedError, copy_rows, row_chunks

__all__ = [
    "RoundToNearest",
    "RoundedRows",
    "Rounding",
    "WeightedError",
    "copy_rows",
    "row_chunks",
]
