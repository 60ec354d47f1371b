"""The tensor types that a user may ask for, and which of them a row of weights gets."""

from dataclasses import dataclass

from gguf import GGMLQuantizationType

from converter.errors import OptionError
from eoq_formats.errors import UnknownTypeError
from eoq_formats.types import WEIGHT_TYPES, WeightType, weight_type, weight_type_for_row
from gguf_files.tensor_types import block_length, type_name

ORDINARY_TYPES = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "mxfp4", "tq2_0", "tq1_0")
"""Types of ggml that gguf-py can quantise to."""

_EOQ_BY_NAME = {t.name.lower(): t for t in WEIGHT_TYPES}


@dataclass(frozen=True)
class TypeChoice:
    """A type as a user asks for it. `eoq4` leaves the block width to the row length; `eoq4_64` and `q8_0` do not."""

    type: GGMLQuantizationType
    eoq: WeightType | None = None
    """The EOQ type that is meant; None for ordinary types."""

    @property
    def name(self) -> str:
        return type_name(self.type)

    @property
    def any_width(self) -> bool:
        """Whether the row length decides how wide the blocks are."""
        return self.eoq is not None and self.eoq.name == self.eoq.family

    def for_row(self, row_length: int) -> GGMLQuantizationType | None:
        """The type for rows of this length, or None when no whole number of blocks makes such a row."""
        if self.eoq is not None and self.any_width:
            fitting = weight_type_for_row(self.eoq.family, row_length)
            return GGMLQuantizationType(fitting.id) if fitting else None
        return self.type if row_length % block_length(self.type) == 0 else None

    @property
    def blocks(self) -> str:
        """The block lengths that rows may be made of, for messages."""
        if self.eoq is None or not self.any_width:
            return str(block_length(self.type))
        *widths, widest = sorted(t.width for t in WEIGHT_TYPES if t.family == self.eoq.family)
        return f"{', '.join(map(str, widths))} or {widest}"


def eoq_choice(eoq: WeightType) -> TypeChoice:
    return TypeChoice(GGMLQuantizationType(eoq.id), eoq)


def parse_type(name: str) -> TypeChoice:
    """Find an EOQ or ordinary type by name, any case. Raises UnknownTypeError."""
    key = name.strip().lower()
    if key in ORDINARY_TYPES:
        return TypeChoice(GGMLQuantizationType[key.upper()])
    if key in _EOQ_BY_NAME:
        return eoq_choice(_EOQ_BY_NAME[key])
    known = ", ".join((*_EOQ_BY_NAME, *ORDINARY_TYPES))
    raise UnknownTypeError(f"unknown tensor type {name!r}; choose one of {known}")


def parse_eoq_type(name: str) -> WeightType:
    """Find an EOQ type by name, any case. Raises UnknownTypeError, also for ordinary types."""
    return weight_type(name.strip())


def type_for_any_row(
    choice: TypeChoice, row_length: int, stored: GGMLQuantizationType
) -> tuple[GGMLQuantizationType, str]:
    """The type for a row, with the ordinary types as a way out: EOQ, else Q8_0, else F16, or BF16 for what is `stored`
    so, whose range F16 has not. Returns it and the reason."""
    chosen = choice.for_row(row_length)
    if chosen is not None:
        return chosen, ""
    half = GGMLQuantizationType.BF16 if stored == GGMLQuantizationType.BF16 else GGMLQuantizationType.F16
    fallback = half if row_length % 32 else GGMLQuantizationType.Q8_0
    return fallback, f"rows of {row_length} are not whole blocks of {choice.blocks}, as {choice.name} needs"


def require_type_for_row(choice: TypeChoice, tensor: str, row_length: int) -> GGMLQuantizationType:
    """The type for a row, where the user asked for no other. Raises OptionError."""
    chosen = choice.for_row(row_length)
    if chosen is None:
        raise OptionError(
            f"tensor {tensor} has rows of {row_length} weights, which are not whole blocks of {choice.blocks}, "
            f"as {choice.name} needs; choose another type for it"
        )
    return chosen
