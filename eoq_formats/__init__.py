"""The EOQ tensor types: rotated blocks of Lloyd-Max codes. The byte-exact specification is docs/format.md."""

from typing import TYPE_CHECKING, Any

from eoq_formats.errors import EoqError, NonFiniteWeightError, ScaleOverflowError, UnknownTypeError
from eoq_formats.types import (
    ACTIVATION_TYPES,
    WEIGHT_TYPES,
    ActivationType,
    WeightType,
    weight_type,
    weight_type_for_row,
)

if TYPE_CHECKING:
    from eoq_formats.tensors import EoqTensor, dequantize, quantize

__all__ = [
    "ACTIVATION_TYPES",
    "WEIGHT_TYPES",
    "ActivationType",
    "EoqError",
    "EoqTensor",
    "NonFiniteWeightError",
    "ScaleOverflowError",
    "UnknownTypeError",
    "WeightType",
    "dequantize",
    "quantize",
    "weight_type",
    "weight_type_for_row",
]

_OF_TENSORS = ("EoqTensor", "dequantize", "quantize")


def __getattr__(name: str) -> Any:
    """What needs NumPy and numba, loaded when it is asked for: ggml_patch runs without them."""
    if name in _OF_TENSORS:
        from eoq_formats import tensors

        return getattr(tensors, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
