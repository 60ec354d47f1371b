"""How long rounding takes, as far as the time left is concerned: by type and method, not by tensors.

The figures are those of reports of conversions on two cores (a 135M, a 0.5B and a 1.5B model; `seconds` of their
tensors), rounded: their ratios matter, and are right to about a third.
"""

from converter.plan import TensorPlan
from eoq_formats.types import WeightType
from gguf_files.tensor_types import eoq_type

COPY = 5
"""Nanoseconds a weight, as all that follows."""
_NEAREST = {False: 15, True: 200}
"""Of scalar types and of trellis types."""
_SCALAR = 250
_TRELLIS = {2: 1000, 3: 1000, 4: 1500, 5: 1800}
"""By bits."""
_PER_COLUMN = 0.2
"""What is fed back to a weight comes from all columns of its row."""
_EFFORT = {1: 0.5, 2: 1.0, 3: 2.8}


def nearest_cost(plan: TensorPlan) -> int:
    """Nanoseconds a weight of rounding to nearest."""
    t = eoq_type(plan.type)
    return _NEAREST[t is not None and t.is_trellis]


def feedback_cost(t: WeightType, row_length: int, effort: int) -> int:
    """Nanoseconds a weight of rounding with error feedback."""
    base = _TRELLIS[t.bits] * _EFFORT[effort] if t.is_trellis else _SCALAR
    return round(base + _PER_COLUMN * row_length)
