"""Teach gguf-py the EOQ types, so that GGUFReader, GGUFWriter and gguf.quants handle them like their own."""

from enum import IntEnum

import gguf
import numpy as np
from gguf.quants import __Quant as QuantBase  # the base class that gguf-py's own types derive from
from numpy.typing import NDArray

from eoq_formats import kernels
from eoq_formats.errors import NonFiniteWeightError
from eoq_formats.types import ACTIVATION_TYPES, WEIGHT_TYPES, WeightType


def register() -> None:
    """Add the types to gguf-py's enums, size table and quantisers. Calling it again changes nothing.

    Afterwards `gguf.GGMLQuantizationType.EOQ4`, `gguf.LlamaFileType.MOSTLY_EOQ4` and the like exist.
    """
    for activation in ACTIVATION_TYPES:
        member = _add_member(gguf.GGMLQuantizationType, activation.name, activation.id)
        gguf.GGML_QUANT_SIZES[member] = (activation.width, activation.block_bytes)
    for t in WEIGHT_TYPES:
        member = _add_member(gguf.GGMLQuantizationType, t.name, t.id)
        gguf.GGML_QUANT_SIZES[member] = (t.width, t.block_bytes)
        _add_member(gguf.LlamaFileType, f"MOSTLY_{t.name}", t.id)
        if member not in gguf.quants._type_traits:
            _add_quantiser(t, member)


def _add_member(enum: type[IntEnum], name: str, value: int) -> IntEnum:
    """Add a member to an IntEnum after its creation, which the enum module has no public way for."""
    if name in enum.__members__:
        return enum[name]
    member = int.__new__(enum, value)
    member._name_ = name
    member._value_ = value
    enum._member_map_[name] = member
    enum._member_names_.append(name)
    enum._value2member_map_[value] = member
    type.__setattr__(enum, name, member)
    return member


def _add_quantiser(t: WeightType, member: IntEnum) -> None:
    """Define the gguf-py class of one type; its base keeps block size, shapes and lazy arrays."""

    def quantize_blocks(cls: type, blocks: NDArray[np.float32]) -> NDArray[np.uint8]:
        packed = kernels.quantize(blocks, t)
        if (packed.status == kernels.STATUS_NON_FINITE).any():
            raise NonFiniteWeightError(f"cannot quantise to {t.name}: the array has NaN or infinite values")
        return packed.data

    def dequantize_blocks(cls: type, blocks: NDArray[np.uint8]) -> NDArray[np.float32]:
        return kernels.dequantize(blocks, t)

    type(
        t.name,
        (QuantBase,),
        {"quantize_blocks": classmethod(quantize_blocks), "dequantize_blocks": classmethod(dequantize_blocks)},
        qtype=member,
    )
