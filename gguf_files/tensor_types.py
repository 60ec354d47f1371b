"""The tensor types of GGUF files: EOQ's own, and the ordinary ones of gguf-py."""

from functools import cache

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from eoq_formats.gguf_registration import register
from eoq_formats.types import WEIGHT_TYPES, WeightType

register()

FLOAT_TYPES = frozenset(
    (GGMLQuantizationType.F64, GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)
)
INTEGER_TYPES = frozenset(
    (GGMLQuantizationType.I8, GGMLQuantizationType.I16, GGMLQuantizationType.I32, GGMLQuantizationType.I64)
)

_EOQ_BY_ID = {t.id: t for t in WEIGHT_TYPES}


def eoq_type(t: GGMLQuantizationType) -> WeightType | None:
    """The EOQ weight type behind a GGUF type, or None for an ordinary type."""
    return _EOQ_BY_ID.get(int(t))


def type_name(t: GGMLQuantizationType) -> str:
    """Name of a type as llama.cpp prints it: `eoq4_64`, `q8_0`."""
    return str(t.name).lower()


def block_length(t: GGMLQuantizationType) -> int:
    """Weights in a block: rows are whole blocks."""
    return int(GGML_QUANT_SIZES[t][0])


def row_bytes(t: GGMLQuantizationType, row_length: int) -> int:
    """Bytes of a row of `row_length` weights, a multiple of the block length."""
    length, size = GGML_QUANT_SIZES[t]
    return row_length // int(length) * int(size)


def bits_per_weight(t: GGMLQuantizationType) -> float:
    length, size = GGML_QUANT_SIZES[t]
    return 8 * int(size) / int(length)


def is_quantized(t: GGMLQuantizationType) -> bool:
    """Whether tensors of the type hold rounded weights."""
    return t not in FLOAT_TYPES and t not in INTEGER_TYPES


@cache
def can_dequantize(t: GGMLQuantizationType) -> bool:
    """Whether gguf-py knows how to turn the type into floats."""
    try:
        dequantize(np.zeros((1, int(GGML_QUANT_SIZES[t][1])), dtype=np.uint8), t)
    except NotImplementedError:
        return False
    return True
