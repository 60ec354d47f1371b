"""The table of EOQ tensor types: names, ids, widths, sizes. Everything else derives from it.

Source of ids and sizes: docs/format.md. `ggml_patch/base/ggml-eoq.h` mirrors this table; a test holds the two equal.
"""

from dataclasses import dataclass

from eoq_formats.errors import UnknownTypeError

SCALE_BYTES = 2
"""Bytes of the fp16 scale in front of each weight block."""


@dataclass(frozen=True)
class ActivationType:
    """An 8-bit type of rotated activations. Exists in memory only, never in a file."""

    name: str
    id: int
    width: int

    @property
    def block_bytes(self) -> int:
        """float32 scale, int32 sum of the values, `width` int8 values."""
        return 4 + 4 + self.width


@dataclass(frozen=True)
class WeightType:
    """A weight type: blocks of `width` rotated weights with `bits`-bit codes and one fp16 scale."""

    name: str
    id: int
    bits: int
    width: int
    activation: ActivationType
    is_trellis: bool = False
    """Whether the level of a weight depends on the codes before it (eoq_formats.trellis) or on its own code alone."""

    @property
    def family(self) -> str:
        """Name of the types that differ from this one in width alone: that of the widest of them."""
        return self.name.partition("_")[0]

    @property
    def block_bytes(self) -> int:
        return SCALE_BYTES + self.bits * self.width // 8

    @property
    def bits_per_weight(self) -> float:
        return 8 * self.block_bytes / self.width

    def row_bytes(self, row_length: int) -> int:
        """Bytes of a row of `row_length` weights, which must be a multiple of `width`."""
        if row_length % self.width:
            raise ValueError(f"{self.name} needs rows of a multiple of {self.width} weights, not {row_length}")
        return row_length // self.width * self.block_bytes


Q8_EOQ = ActivationType("Q8_EOQ", 168, 128)
Q8_EOQ_64 = ActivationType("Q8_EOQ_64", 178, 64)
Q8_EOQ_256 = ActivationType("Q8_EOQ_256", 169, 256)

ACTIVATION_TYPES: tuple[ActivationType, ...] = (Q8_EOQ, Q8_EOQ_64, Q8_EOQ_256)

BITS: tuple[int, ...] = (2, 3, 4, 5, 6)
"""Bits of the scalar types."""
TRELLIS_BITS: tuple[int, ...] = (2, 3, 4, 5)

WEIGHT_TYPES: tuple[WeightType, ...] = (
    *(WeightType(f"EOQ{bits}", 160 + bits, bits, 128, Q8_EOQ) for bits in BITS),
    *(WeightType(f"EOQ{bits}_64", 170 + bits, bits, 64, Q8_EOQ_64) for bits in BITS),
    *(WeightType(f"EOQ{bits}T", 178 + bits, bits, 256, Q8_EOQ_256, is_trellis=True) for bits in TRELLIS_BITS),
    *(WeightType(f"EOQ{bits}T_128", 182 + bits, bits, 128, Q8_EOQ, is_trellis=True) for bits in TRELLIS_BITS),
    *(WeightType(f"EOQ{bits}T_64", 186 + bits, bits, 64, Q8_EOQ_64, is_trellis=True) for bits in TRELLIS_BITS),
)

SCALAR_TYPES: tuple[WeightType, ...] = tuple(t for t in WEIGHT_TYPES if not t.is_trellis)
TRELLIS_TYPES: tuple[WeightType, ...] = tuple(t for t in WEIGHT_TYPES if t.is_trellis)

_BY_NAME = {t.name: t for t in WEIGHT_TYPES}
_BY_ID = {t.id: t for t in WEIGHT_TYPES}


def weight_type(name_or_id: str | int) -> WeightType:
    """Find a weight type by name (any case, `eoq4` or `EOQ4_64`) or by its id in GGUF files.

    Raises UnknownTypeError for anything else.
    """
    named = _BY_ID.get(name_or_id) if isinstance(name_or_id, int) else _BY_NAME.get(name_or_id.upper())
    if named is None:
        known = ", ".join(t.name.lower() for t in WEIGHT_TYPES)
        raise UnknownTypeError(f"unknown EOQ type {name_or_id!r}; choose one of {known}")
    return named


def weight_type_for_row(family: str, row_length: int) -> WeightType | None:
    """The widest type of a family (`EOQ4`, `eoq4t`) whose blocks divide rows of `row_length`; None if none does."""
    return max(
        (t for t in WEIGHT_TYPES if t.family == family.upper() and row_length % t.width == 0),
        key=lambda t: t.width,
        default=None,
    )


def block_width(row_length: int) -> int | None:
    """Weights of a scalar type's block in rows of `row_length`: 128 if it divides, else 64, else None."""
    fitting = weight_type_for_row("EOQ4", row_length)
    return fitting.width if fitting else None
