"""Trellis codes: the level of a weight depends on its code and on the codes before it in a chain through the block.

The same bits a weight choose among many times as many levels as a code by itself has (trellis-coded quantisation,
Marcellin and Fischer 1990). Two decoders serve four bit rates. With codes of 2 bits the level is one of 16, and each
bit of its number is the XOR of a few bits of the last five codes. With codes of 4 bits it is a sum of two levels, one
of 16 by the code itself and one of 16 by the two codes before. Types of 3 and 5 bits have one more bit a weight, on
which no other level depends: it chooses between two tables. `python -m bench.trellis_search` found matrices and tables;
docs/format.md has the bytes.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from eoq_formats.codebooks import Codebook, codebook
from eoq_formats.types import WeightType

Levels = NDArray[np.int8]
Number = TypeVar("Number", bound=np.number[Any])

NUMBER_MASKS = (0x181, 0x242, 0x0A4, 0x058)
"""Bit i of a level's number is the XOR of these bits of the window of 2-bit codes, whose lowest two are the newest."""

# levels by number (2 and 3 bits), or by code (4 and 5 bits)
_FIRST = {
    2: (-15, -4, 1, 7, -10, -3, 2, 7, -7, -2, 3, 10, -7, -1, 4, 15),
    3: (
        *(-14, -23, -3, -8, -6, -1, -30, -11, -3, -6, -18, -11, -15, 0, -8, -4),
        *(6, 2, 16, 10, 12, 22, 3, 7, 14, 7, 0, 3, 4, 29, 10, 18),
    ),
    4: (-38, -26, -20, -16, -12, -8, -5, -2, 2, 4, 8, 12, 16, 20, 27, 40),
    5: (
        *(-86, -59, -46, -51, -41, -35, -31, -32, -23, -19, -27, -14, -11, 2, -1, -6),
        *(3, 10, 15, 12, 6, 22, 26, 9, 18, 30, 40, 33, 36, 52, 62, 86),
    ),
}
# added to that: a level by the code before last, XOR these bits of the last code
_SECOND = {
    4: (-6, 8, 12, 5, 19, -1, -21, -13, 2, 11, 6, 0, 15, -9, -16, -4),
    5: (-3, 20, 0, -15, 16, 4, -28, -7, -19, 26, -24, -39, 7, 12, 38, -11),
}
_OLDER_MASKS = {4: (2, 2, 15, 14), 5: (12, 9, 10, 6)}

# multiples of 2^-10, so that each is exact in float32
_FACTORS = {2: 7286 / 1024, 3: 11023 / 1024, 4: 19205 / 1024, 5: 37336 / 1024}
# measured: a test holds them to what rounding gives
_ERRORS = {2: 0.07497, 3: 0.01988, 4: 0.005434, 5: 0.001354}

CHAIN_COLUMNS = 32
"""Bytes of a plane that stand side by side: the chain goes down the columns of such a table, one after the other."""


@dataclass(frozen=True)
class TrellisCode:
    """The code of one bit rate. Windows hold the newest code in their lowest bits, older ones above it."""

    bits: int
    code_bits: int
    """Bits of a code of the chain; one more is the free bit, where there is one."""
    memory: int
    """How many older codes the level depends on."""
    has_free_bit: bool
    levels: Levels
    """int8 (1 or 2, 2^(code_bits (memory + 1))): the level of each free bit and window."""
    factor: float
    """Level units of one standard deviation."""
    mse: float
    """Mean squared error on N(0, 1), in blocks of 256 that start without a history."""
    first: Levels
    """int8 (16 or 32,): with codes of 2 bits all levels, by number; with 4 bits the part that the code chooses. Those
    of a set free bit are the last 16."""
    second: Levels
    """int8 (16,): the part that the older codes choose; nothing with codes of 2 bits."""
    masks: tuple[int, ...]
    """With codes of 2 bits, the bits of the window that make each bit of the level's number. With 4 bits, the bits of
    the code before that are XORed with each bit of the one before that."""

    @property
    def states(self) -> int:
        """Different histories."""
        return int(2 ** (self.code_bits * self.memory))


@cache
def trellis_code(bits: int) -> TrellisCode:
    """The code of `bits` (2 to 5) bits a weight."""
    code_bits = 2 if bits < 4 else 4
    has_free_bit = bits != code_bits
    first = np.array(_FIRST[bits], dtype=np.int8)
    second = np.array(_SECOND.get(bits, [0] * 16), dtype=np.int8)
    masks = NUMBER_MASKS if code_bits == 2 else _OLDER_MASKS[bits]
    levels = levels_of_windows(code_bits, first, second, masks)
    figures = _FACTORS[bits], _ERRORS[bits]
    return TrellisCode(bits, code_bits, 8 // code_bits, has_free_bit, levels, *figures, first, second, masks)


def levels_of_windows(
    code_bits: int, first: NDArray[Number], second: NDArray[Number], masks: tuple[int, ...]
) -> NDArray[Number]:
    """The levels of TrellisCode, of any dtype, by its tables and masks."""
    chosen = first.reshape(-1, 16)
    if code_bits == 2:
        return np.ascontiguousarray(chosen[:, parities(np.arange(1 << 10), masks)])
    window = np.arange(1 << 12)
    return np.ascontiguousarray(chosen[:, window & 15] + second[window >> 8 ^ parities(window >> 4 & 15, masks)])


def parities(x: NDArray[np.int64], masks: tuple[int, ...]) -> NDArray[np.int64]:
    """Bit i of the result is the parity of x & masks[i]; int64, the shape of x."""
    result = np.zeros_like(x)
    for i, mask in enumerate(masks):
        result |= (np.bitwise_count(x & mask) & 1).astype(np.int64) << i
    return result


@cache
def chain_order(width: int, code_bits: int) -> NDArray[np.intp]:
    """intp (w,): the position in the block of each code of the chain.

    Within a byte of the plane the chain goes from the lowest bits up. Bytes stand in rows of 32, and the chain takes
    them column by column.
    """
    plane = code_bits * width // 8
    rows = plane // min(plane, CHAIN_COLUMNS)
    byte = np.arange(plane).reshape(rows, -1).T.reshape(-1)
    order = byte[:, None] + plane * np.arange(8 // code_bits)
    return np.ascontiguousarray(order.reshape(-1).astype(np.intp))


def trellis_windows(chain: NDArray[np.uint8], code: TrellisCode) -> NDArray[np.int64]:
    """Codes uint8 (…, w), in the order of the chain, to the window of each, int64 (…, w)."""
    codes = chain.astype(np.int64) & (2**code.code_bits - 1)
    window: NDArray[np.int64] = np.zeros_like(codes)
    for age in range(code.memory + 1):
        window[..., age:] |= codes[..., : codes.shape[-1] - age] << (code.code_bits * age)
    return window


def decode(codes: NDArray[np.uint8], t: WeightType) -> Levels:
    """Codes uint8 (…, w), by position, to levels int8 (…, w)."""
    code = trellis_code(t.bits)
    order = chain_order(t.width, code.code_bits)
    chain = codes[..., order]
    levels = np.empty(codes.shape, dtype=np.int8)
    levels[..., order] = code.levels[chain >> code.code_bits, trellis_windows(chain, code)]
    return levels


def code_of(t: WeightType) -> Codebook | TrellisCode:
    """The code of any type: `factor`, level units of one standard deviation, and `mse`, its error on N(0, 1)."""
    return trellis_code(t.bits) if t.is_trellis else codebook(t.bits)
