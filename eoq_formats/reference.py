"""The EOQ types in plain NumPy: obvious, slow, and the truth that every kernel equals to the last bit.

Section numbers refer to docs/format.md. Blocks are rows of arrays (blocks, width).
"""

import numpy as np
from numpy.typing import NDArray

from eoq_formats import trellis
from eoq_formats.codebooks import codebook
from eoq_formats.packing import pack, unpack
from eoq_formats.rotation import rotate, unrotate_levels
from eoq_formats.types import SCALE_BYTES, ActivationType, WeightType
from eoq_formats.viterbi import cheapest_path

LEVEL_UNIT = 2.0**-12
"""A level of 1 at scale d = 1 stands for this much weight, before the transform."""

INPUT_LIMIT = np.float32(2.0**100)
"""Weights are clamped to this magnitude so that no float32 sum overflows; no fp16 scale reaches it anyway."""

MAX_SCALE = np.float32(65504)
"""Largest finite fp16 number; larger scales saturate."""

REFITS = 2
"""How often the scale is fitted to the codes and the codes chosen again."""

GRID_TOLERANCE = np.float32(2.0**-20)
"""A block lies on a grid if no value is further from it than this times the block's largest magnitude.

Dequantised blocks are on theirs to 2^-21; two grids that differ at all differ by 2^-18. (Section 5.4)
"""

TRELLIS_MARGIN = 32
"""Targets of a trellis are clamped to this many level units beyond its outermost levels. (Section 5.6)"""

SMALLEST_ACTIVATION = np.float32(2.0**-100)
"""Activation blocks whose largest rotated magnitude is below this are zero."""


def sum_by_halves(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum over the last axis (a power of two long): upper half added onto lower half until one value is left.

    The order of these float64 additions decides bytes, so it is part of the format.
    """
    while x.shape[-1] > 1:
        half = x.shape[-1] // 2
        x = x[..., :half] + x[..., half:]
    return x[..., 0]


def quantize(x: NDArray[np.float32], t: WeightType) -> NDArray[np.uint8]:
    """Round weights float32 (rows, n) to nearest: uint8 (rows, t.row_bytes(n)). (Section 5)

    A block with a NaN or an infinity gets a scale of NaN and no codes.
    """
    rows = x.shape[0]
    blocks = np.clip(x.reshape(-1, t.width), -INPUT_LIMIT, INPUT_LIMIT)
    finite = np.isfinite(x).reshape(blocks.shape).all(axis=1)
    blocks[~finite] = 0
    v = rotate(blocks)
    d, codes = _fit_path(v, t) if t.is_trellis else _fit_or_grid(v, t)
    planes = pack(codes, t)
    planes[d == 0] = 0
    d = np.where(finite, d, np.float16(np.nan))
    scales = d.astype("<f2").view(np.uint8).reshape(-1, SCALE_BYTES)
    return np.concatenate((scales, planes), axis=1).reshape(rows, -1)


def _fit_or_grid(v: NDArray[np.float32], t: WeightType) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Scale and codes of the scalar types. (Section 5.5)"""
    d, codes = _fit(v, t)
    on_grid, grid_d, grid_codes = _grid(v, t)
    d, codes = np.where(on_grid, grid_d, d), np.where(on_grid[:, None], grid_codes, codes)
    # of several exact descriptions of the same weights, keep the one that _grid finds first
    decoded = codebook(t.bits).levels[codes].astype(np.float32) * _unit(d, t)[:, None]
    on_grid, grid_d, grid_codes = _grid(decoded, t)
    return np.where(on_grid, grid_d, d), np.where(on_grid[:, None], grid_codes, codes)


def _fit_path(v: NDArray[np.float32], t: WeightType) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Scale from the RMS, the cheapest path through the trellis, then the least-squares scale. (Section 5.6)"""
    code = trellis.trellis_code(t.bits)
    order = trellis.chain_order(t.width, code.code_bits)
    wide = v.astype(np.float64)
    to_rotated = t.width * LEVEL_UNIT
    d = _fp16(np.sqrt(sum_by_halves(wide * wide) / t.width) / code.factor / to_rotated)
    unit = _unit(d, t)
    inverse = np.float32(1) / np.where(unit == 0, np.float32(1), unit)
    with np.errstate(over="ignore"):
        r = v * inverse[:, None]
    lowest = np.float32(int(code.levels.min()) - TRELLIS_MARGIN)
    highest = np.float32(int(code.levels.max()) + TRELLIS_MARGIN)
    doubled = np.rint(np.clip(r, lowest, highest) * np.float32(2)).astype(np.int32)
    codes = np.zeros(v.shape, dtype=np.uint8)
    codes[:, order] = cheapest_path(doubled[:, order], code)
    levels = trellis.decode(codes, t).astype(np.float64)
    squares = sum_by_halves(levels * levels)
    fitted = sum_by_halves(wide * levels) / np.where(squares == 0, 1, squares)
    d = np.where((d == 0) | (fitted <= 0), d, _fp16(fitted / to_rotated))
    codes[d == 0] = 0
    return d, codes


def _fit(v: NDArray[np.float32], t: WeightType) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    """Scale from the RMS, nearest codes, then least-squares scale and nearest codes, REFITS times. (Section 5.3)"""
    book = codebook(t.bits)
    wide = v.astype(np.float64)
    to_rotated = t.width * LEVEL_UNIT
    d = _fp16(np.sqrt(sum_by_halves(wide * wide) / t.width) / book.factor / to_rotated)
    codes = _nearest_codes(v, d, t)
    for _ in range(REFITS):
        levels = book.levels[codes].astype(np.float64)
        fitted = sum_by_halves(wide * levels) / sum_by_halves(levels * levels)
        d = np.where(d == 0, d, _fp16(fitted / to_rotated))
        codes = _nearest_codes(v, d, t)
    return d, codes


def _grid(v: NDArray[np.float32], t: WeightType) -> tuple[NDArray[np.bool_], NDArray[np.float16], NDArray[np.uint8]]:
    """Find blocks that are some scale times levels already, so that quantising twice changes nothing. (Section 5.4)

    Tries the positive levels from the largest down as the level of the block's largest magnitude.
    Returns which blocks are on a grid, and their scales and codes.
    """
    book = codebook(t.bits)
    largest = np.abs(v).max(axis=1)
    has_scale = np.zeros(len(v), dtype=bool)
    found_d = np.zeros(len(v), dtype=np.float16)
    found_codes = np.zeros(v.shape, dtype=np.uint8)
    for level in book.levels[: len(book.levels) // 2 - 1 : -1].astype(np.float64):
        d = _fp16(largest.astype(np.float64) / level / (t.width * LEVEL_UNIT))
        codes = _nearest_codes(v, d, t)
        misfit = np.abs(v - book.levels[codes].astype(np.float32) * _unit(d, t)[:, None]).max(axis=1)
        hit = ~has_scale & (d > 0) & (misfit <= GRID_TOLERANCE * largest)
        has_scale |= hit
        found_d[hit], found_codes[hit] = d[hit], codes[hit]
    return has_scale, found_d, found_codes


def _unit(d: NDArray[np.float16], t: WeightType) -> NDArray[np.float32]:
    """Rotated weight of one level unit: d * width * 2^-12, exact in float32."""
    return d.astype(np.float32) * np.float32(t.width * LEVEL_UNIT)


def _fp16(scale: NDArray[np.float64]) -> NDArray[np.float16]:
    """Round to float32, saturate, round to fp16; each rounding to nearest even."""
    with np.errstate(over="ignore"):
        return np.minimum(scale.astype(np.float32), MAX_SCALE).astype(np.float16)


def _nearest_codes(v: NDArray[np.float32], d: NDArray[np.float16], t: WeightType) -> NDArray[np.uint8]:
    """Codes uint8 (blocks, width) of the levels nearest to v / (d * width * 2^-12); all zero where d is zero."""
    book = codebook(t.bits)
    unit = _unit(d, t)
    inverse = np.float32(1) / np.where(unit == 0, np.float32(1), unit)
    with np.errstate(over="ignore"):
        doubled = np.clip(v * inverse[:, None], np.float32(-128), np.float32(127.5)) * np.float32(2)
    codes = np.searchsorted(book.doubled_boundaries.astype(np.float32), doubled, side="right").astype(np.uint8)
    codes[d == 0] = 0
    return codes


def dequantize(data: NDArray[np.uint8], t: WeightType) -> NDArray[np.float32]:
    """Packed rows uint8 (rows, t.row_bytes(n)) to weights float32 (rows, n). (Section 4)"""
    rows = data.shape[0]
    d, levels = scales_and_levels(data, t)
    scale = d.astype(np.float32) * np.float32(LEVEL_UNIT)
    return (unrotate_levels(levels).astype(np.float32) * scale[:, None]).reshape(rows, -1)


def scales_and_levels(data: NDArray[np.uint8], t: WeightType) -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    """Packed rows to scales float16 (blocks,) and levels int8 (blocks, width)."""
    blocks = data.reshape(-1, t.block_bytes)
    d = blocks[:, :SCALE_BYTES].copy().view("<f2")[:, 0]
    codes = unpack(blocks[:, SCALE_BYTES:], t)
    return d, trellis.decode(codes, t) if t.is_trellis else codebook(t.bits).levels[codes]


def quantize_activations(x: NDArray[np.float32], t: ActivationType) -> NDArray[np.uint8]:
    """Rotate and round activations float32 (rows, n): uint8 (rows, n // width * t.block_bytes). (Section 6)"""
    rows = x.shape[0]
    with np.errstate(over="ignore", invalid="ignore"):
        v = rotate(x.reshape(-1, t.width))
    magnitude = v.view(np.int32) & 0x7FFFFFFF  # as integers, so that infinity and NaN rank above every number
    amax = magnitude.max(axis=1).view(np.float32)
    usable = np.isfinite(amax) & (amax >= SMALLEST_ACTIVATION)
    safe = np.where(usable, amax, np.float32(1))
    inverse = np.where(usable, np.float32(127) / safe, np.float32(0))
    q = np.rint(np.where(usable[:, None], v, np.float32(0)) * inverse[:, None]).astype(np.int8)
    d = np.where(usable | ~np.isfinite(amax), amax / np.float32(127), np.float32(0))
    sums = q.sum(axis=1, dtype=np.int32)
    blocks = np.empty((len(q), t.block_bytes), dtype=np.uint8)
    blocks[:, 0:4] = d.astype("<f4")[:, None].view(np.uint8)
    blocks[:, 4:8] = sums.astype("<i4")[:, None].view(np.uint8)
    blocks[:, 8:] = q.view(np.uint8)
    return blocks.reshape(rows, -1)


def integer_dots(weights: NDArray[np.uint8], activations: NDArray[np.uint8], t: WeightType) -> NDArray[np.int32]:
    """Integer sums int32 (blocks,) of levels times rotated int8 activations, block by block. (Section 7)

    Both arguments are packed rows of the same number of weights.
    """
    _, levels = scales_and_levels(weights, t)
    q = activations.reshape(-1, t.activation.block_bytes)[:, 8:].view(np.int8)
    sums: NDArray[np.int32] = np.multiply(levels, q, dtype=np.int32).sum(axis=1, dtype=np.int32)
    return sums


def dot(weights: NDArray[np.uint8], activations: NDArray[np.uint8], t: WeightType) -> np.float32:
    """The dot product of one packed row with one activation row: float32 terms added block by block."""
    d, _ = scales_and_levels(weights, t)
    scale = activations.reshape(-1, t.activation.block_bytes)[:, :4].copy().view("<f4")[:, 0]
    total = np.float32(0)
    for term in (
        d.astype(np.float32) * np.float32(LEVEL_UNIT) * scale * integer_dots(weights, activations, t).astype(np.float32)
    ):
        total += term
    return total
