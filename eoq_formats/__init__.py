"""The EOQ tensor types: rotated blocks of Lloyd-Max codes. The byte-exact specification is docs/format.md."""

from eoq_formats.errors import EoqError, NonFiniteWeightError, ScaleOverflowError, UnknownTypeError
from eoq_formats.types import (
    ACTIVATION_TYPES,
    WEIGHT_TYPES,
    ActivationType,
    WeightType,
    weight_type,
    weight_type_for_row,
)

__all__ = [
    "ACTIVATION_TYPES",
    "WEIGHT_TYPES",
    "ActivationType",
    "EoqError",
    "NonFiniteWeightError",
    "ScaleOverflowError",
    "UnknownTypeError",
    "WeightType",
    "weight_type",
    "weight_type_for_row",
]
