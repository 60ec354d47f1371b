"""The code of a type: what one weight of its bits can become."""

from eoq_formats.codebooks import Codebook, codebook
from eoq_formats.trellis import TrellisCode, trellis_code
from eoq_formats.types import WeightType


def code_of(t: WeightType) -> Codebook | TrellisCode:
    """The code, with `factor`, level units of one standard deviation, and `mse`, its error on N(0, 1)."""
    return trellis_code(t.bits) if t.is_trellis else codebook(t.bits)
