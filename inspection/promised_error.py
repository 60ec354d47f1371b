"""How large the rounding error of a tensor may be, by its type.

An error is relative: the squared differences of all weights over their squares. On Gaussian weights, which rotation
makes of nearly all, it is the mean squared error of the type's code.
"""

from functools import cache

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from eoq_formats.trellis import code_of
from gguf_files.tensor_types import eoq_type

NEAREST_MARGIN = 2.0
"""Of rounding to nearest over the code's error: narrow blocks of trellis types have 0.4 dB more, and no real tensor was
seen 1 dB above."""
FEEDBACK_MARGIN = 8.0
"""Of error feedback, which makes errors of weights larger to make those of outputs smaller: 2.3 times the code's is the
most that was seen in two models and five types, and 4.3 times with neither shrinkage nor much damping."""
OTHER_MARGIN = 8.0
"""Of types without rotation: a block of 32 that has one large weight and no others errs 5.5 times as much as a Gaussian
one."""
LARGEST = 0.9
"""Of all types, however coarse. Zeros in place of the weights have an error of 1, other weights one of 2."""

_FLOATS = {
    # scales that are found again in rounded numbers are known to 2^-23
    GGMLQuantizationType.F64: 2.0**-42,
    GGMLQuantizationType.F32: 2.0**-42,
    GGMLQuantizationType.F16: 2.0**-20,
    GGMLQuantizationType.BF16: 2.0**-16,
}
_SMALLEST_HALF = 2.0**-24
_SAMPLE = 512, 1024


def promised_error(t: GGMLQuantizationType, *, feedback: bool, mean_square: float) -> float | None:
    """The most for a tensor whose weights have this mean square; None for a type that gguf-py cannot round to."""
    eoq = eoq_type(t)
    if eoq is not None:
        return (FEEDBACK_MARGIN if feedback else NEAREST_MARGIN) * code_of(eoq).mse
    if t in _FLOATS:
        # subnormal numbers are all half a step off
        below = (_SMALLEST_HALF / 2) ** 2 / mean_square if t == GGMLQuantizationType.F16 and mean_square else 0.0
        return _FLOATS[t] + below
    error = _gaussian_error(t)
    return None if error is None else OTHER_MARGIN * error


@cache
def _gaussian_error(t: GGMLQuantizationType) -> float | None:
    """The error of gguf-py's rounding on a fixed sample of N(0, 1)."""
    sample = np.random.default_rng(0).standard_normal(_SAMPLE, dtype=np.float32)
    try:
        rounded = dequantize(quantize(sample, t), t)
    except NotImplementedError:
        return None
    return float(np.square(rounded - sample, dtype=np.float64).mean() / np.square(sample, dtype=np.float64).mean())
