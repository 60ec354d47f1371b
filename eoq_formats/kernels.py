"""Numba kernels of the EOQ types: the same bytes as `eoq_formats.reference`, on all cores.

Rows are independent, so the result does not depend on the number of threads. Floating-point contraction and
reordering stay off (numba's default): each sum is added in the order that docs/format.md fixes.
"""

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.block_kernels import (
    STATUS_NON_FINITE,
    STATUS_OK,
    STATUS_SCALE_OVERFLOW,
    dot_block,
    levels_of_block,
    make_work,
    pack_codes,
    quantize_activation_block,
    quantize_block,
    scale_levels,
    weights_of_levels,
)
from eoq_formats.codebooks import codebook
from eoq_formats.compiled import njit
from eoq_formats.packing import PLANES
from eoq_formats.rotation import signs
from eoq_formats.trellis_kernels import (
    levels_of_trellis_block,
    make_trellis_work,
    pack_chain,
    quantize_trellis_block,
    trellis_tables,
)
from eoq_formats.types import ActivationType, WeightType

__all__ = [
    "STATUS_NON_FINITE",
    "STATUS_OK",
    "STATUS_SCALE_OVERFLOW",
    "QuantizedRows",
    "dequantize",
    "integer_dots",
    "pack_chains",
    "pack_rows",
    "quantize",
    "quantize_activations",
    "scaled_levels",
    "set_threads",
]

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class QuantizedRows:
    """Packed rows and what rounding did to them.

    data   uint8 (rows, row bytes)
    signal float64 (rows,), sum of the squared weights
    error  float64 (rows,), sum of the squared differences between packed and given weights
    status int32 (rows,), STATUS_OK, STATUS_NON_FINITE (a NaN or infinity: its block has a scale of NaN) or
           STATUS_SCALE_OVERFLOW (a block needs a larger scale than fp16 has: it is clipped)
    """

    data: Bytes
    signal: NDArray[np.float64]
    error: NDArray[np.float64]
    status: NDArray[np.int32]


def set_threads(count: int) -> None:
    """Use `count` threads from now on (at most the number of cores that numba found)."""
    numba.set_num_threads(max(1, min(count, numba.config.NUMBA_NUM_THREADS)))


class _Tables(NamedTuple):
    """Constants of a type, in the order in which the block kernels take them."""

    bits: int
    low_bits: int
    sign: Floats
    levels: NDArray[np.int8]
    code_of: Bytes
    factor: float


@cache
def _sign(width: int) -> Floats:
    return signs(width).astype(np.float32)


@cache
def _tables(t: WeightType) -> _Tables:
    book = codebook(t.bits)
    return _Tables(
        bits=t.bits,
        low_bits=PLANES[t.bits][0],
        sign=_sign(t.width),
        levels=book.levels,
        code_of=book.code_of_doubled,
        factor=book.factor,
    )


def quantize(x: Floats, t: WeightType) -> QuantizedRows:
    """Round weights float32 (rows, n) to nearest; n is a multiple of t.width."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    rows, n = x.shape
    data = np.empty((rows, t.row_bytes(n)), dtype=np.uint8)
    signal, error = np.zeros(rows), np.zeros(rows)
    status = np.zeros(rows, dtype=np.int32)
    if t.is_trellis:
        _quantize_trellis_rows(x, t.block_bytes, _sign(t.width), trellis_tables(t), data, signal, error, status)
    else:
        _quantize_rows(x, t.block_bytes, *_tables(t), data, signal, error, status)
    return QuantizedRows(data, signal, error, status)


@njit(parallel=True, nogil=True)
def _quantize_trellis_rows(x, block_bytes, sign, tables, data, signal, error, status):  # type: ignore[no-untyped-def]
    rows, n = x.shape
    width = sign.shape[0]
    for row in numba.prange(rows):
        work = make_trellis_work(width)
        v, scratch = np.empty(width, dtype=np.float32), np.empty(width, dtype=np.float64)
        targets, codes = np.empty(width, dtype=np.int16), np.empty(width, dtype=np.uint8)
        for block in range(n // width):
            values = x[row, block * width : (block + 1) * width]
            out = data[row, block * block_bytes : (block + 1) * block_bytes]
            outcome, energy, squared_error = quantize_trellis_block(
                values, sign, tables, work, v, scratch, targets, codes, out
            )
            signal[row] += energy
            error[row] += squared_error
            if outcome != STATUS_OK and status[row] != STATUS_NON_FINITE:
                status[row] = outcome


@njit(parallel=True, nogil=True)
def _quantize_rows(x, block_bytes, bits, low_bits, sign, levels, code_of, factor, data, signal, error, status):  # type: ignore[no-untyped-def]
    rows, n = x.shape
    width = sign.shape[0]
    for row in numba.prange(rows):
        work = make_work(width)
        for block in range(n // width):
            outcome, energy, squared_error = quantize_block(
                x[row, block * width : (block + 1) * width],
                bits,
                low_bits,
                sign,
                levels,
                code_of,
                factor,
                work,
                data[row, block * block_bytes : (block + 1) * block_bytes],
            )
            signal[row] += energy
            error[row] += squared_error
            if outcome != STATUS_OK and status[row] != STATUS_NON_FINITE:
                status[row] = outcome


def pack_rows(levels: NDArray[np.int8], scales: NDArray[np.float16], t: WeightType) -> Bytes:
    """Levels int8 (rows, n) of t's codebook and scales float16 (rows, n // t.width) to rows uint8 (rows, row bytes).

    A block with a scale of 0 gets codes of 0, whatever its levels.
    """
    rows, n = levels.shape
    data = np.empty((rows, t.row_bytes(n)), dtype=np.uint8)
    tables = _tables(t)
    bits = np.ascontiguousarray(scales, dtype="<f2").view(np.uint16)
    _pack_rows(
        np.ascontiguousarray(levels), bits, t.block_bytes, t.width, tables.bits, tables.low_bits, tables.code_of, data
    )
    return data


@njit(parallel=True, nogil=True)
def _pack_rows(levels, scales, block_bytes, width, bits, low_bits, code_of, data):  # type: ignore[no-untyped-def]
    for row in numba.prange(levels.shape[0]):
        codes = np.empty(width, dtype=np.uint8)
        for block in range(scales.shape[1]):
            scale = scales[row, block]
            for i in range(width):
                level = np.int32(levels[row, block * width + i])
                codes[i] = 0 if scale == 0 else code_of[2 * level + 256]
            out = data[row, block * block_bytes : (block + 1) * block_bytes]
            out[0] = scale & 0xFF
            out[1] = scale >> 8
            pack_codes(codes, bits, low_bits, out[2:])


def pack_chains(codes: Bytes, scales: NDArray[np.float16], t: WeightType) -> Bytes:
    """Codes uint8 (rows, n) of a trellis type, each block in the order of its chain, to rows uint8 (rows, row bytes).

    Scales are float16 (rows, n // t.width). A block with a scale of 0 gets codes of 0.
    """
    rows, n = codes.shape
    data = np.empty((rows, t.row_bytes(n)), dtype=np.uint8)
    bits = np.ascontiguousarray(scales, dtype="<f2").view(np.uint16)
    _pack_chains(np.ascontiguousarray(codes), bits, t.block_bytes, t.width, trellis_tables(t), data)
    return data


@njit(parallel=True, nogil=True)
def _pack_chains(codes, scales, block_bytes, width, tables, data):  # type: ignore[no-untyped-def]
    for row in numba.prange(codes.shape[0]):
        for block in range(scales.shape[1]):
            scale = scales[row, block]
            out = data[row, block * block_bytes : (block + 1) * block_bytes]
            out[:] = 0
            out[0] = scale & 0xFF
            out[1] = scale >> 8
            if scale != 0:
                pack_chain(codes[row, block * width : (block + 1) * width], tables, out[2:])


def dequantize(data: Bytes, t: WeightType) -> Floats:
    """Packed rows uint8 (rows, row bytes) to weights float32 (rows, n)."""
    data = np.ascontiguousarray(data, dtype=np.uint8)
    rows, size = data.shape
    if size % t.block_bytes:
        raise ValueError(f"{t.name} rows are multiples of {t.block_bytes} bytes, not {size}")
    out = np.empty((rows, size // t.block_bytes * t.width), dtype=np.float32)
    if t.is_trellis:
        _dequantize_trellis_rows(data, t.block_bytes, _sign(t.width), trellis_tables(t), out)
    else:
        tables = _tables(t)
        _dequantize_rows(data, t.block_bytes, tables.bits, tables.low_bits, tables.sign, tables.levels, out)
    return out


@njit(parallel=True, nogil=True)
def _dequantize_rows(data, block_bytes, bits, low_bits, sign, levels, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    for row in numba.prange(data.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(data.shape[1] // block_bytes):
            packed = data[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_block(packed[2:], bits, low_bits, levels, v)
            weights_of_levels(v, packed, sign, out[row, block * width : (block + 1) * width])


@njit(parallel=True, nogil=True)
def _dequantize_trellis_rows(data, block_bytes, sign, tables, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    for row in numba.prange(data.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(data.shape[1] // block_bytes):
            packed = data[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_trellis_block(packed[2:], tables, v)
            weights_of_levels(v, packed, sign, out[row, block * width : (block + 1) * width])


def scaled_levels(data: Bytes, t: WeightType) -> Floats:
    """Packed rows uint8 (rows, row bytes) to rotated weights float32 (rows, n): levels times float32(d) * 2^-12.

    Their product with rotated activations F(D x) is that of weights and activations (docs/format.md, section 6).
    """
    data = np.ascontiguousarray(data, dtype=np.uint8)
    rows, size = data.shape
    if size % t.block_bytes:
        raise ValueError(f"{t.name} rows are multiples of {t.block_bytes} bytes, not {size}")
    out = np.empty((rows, size // t.block_bytes * t.width), dtype=np.float32)
    if t.is_trellis:
        _scale_trellis_rows(data, t.block_bytes, t.width, trellis_tables(t), out)
    else:
        tables = _tables(t)
        _scale_rows(data, t.block_bytes, t.width, tables.bits, tables.low_bits, tables.levels, out)
    return out


@njit(parallel=True, nogil=True)
def _scale_rows(data, block_bytes, width, bits, low_bits, levels, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(data.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(data.shape[1] // block_bytes):
            packed = data[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_block(packed[2:], bits, low_bits, levels, v)
            scale_levels(v, packed, out[row, block * width : (block + 1) * width])


@njit(parallel=True, nogil=True)
def _scale_trellis_rows(data, block_bytes, width, tables, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(data.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(data.shape[1] // block_bytes):
            packed = data[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_trellis_block(packed[2:], tables, v)
            scale_levels(v, packed, out[row, block * width : (block + 1) * width])


def quantize_activations(x: Floats, t: ActivationType) -> Bytes:
    """Rotate and round activations float32 (rows, n) to packed rows uint8 (rows, n // t.width * t.block_bytes)."""
    x = np.ascontiguousarray(x, dtype=np.float32)
    rows, n = x.shape
    if n % t.width:
        raise ValueError(f"{t.name} needs rows of a multiple of {t.width} values, not {n}")
    out = np.empty((rows, n // t.width * t.block_bytes), dtype=np.uint8)
    _quantize_activation_rows(x, _sign(t.width), t.block_bytes, out)
    return out


@njit(parallel=True, nogil=True)
def _quantize_activation_rows(x, sign, block_bytes, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    for row in numba.prange(x.shape[0]):
        v = np.empty(width, dtype=np.float32)
        for block in range(x.shape[1] // width):
            quantize_activation_block(
                x[row, block * width : (block + 1) * width],
                sign,
                v,
                out[row, block * block_bytes : (block + 1) * block_bytes],
            )


def integer_dots(weights: Bytes, activations: Bytes, t: WeightType) -> NDArray[np.int32]:
    """Integer sums int32 (rows, blocks) of levels times rotated int8 activations.

    weights uint8 (rows, row bytes) of type t; activations uint8 (rows, row bytes) of type t.activation.
    """
    weights = np.ascontiguousarray(weights, dtype=np.uint8)
    activations = np.ascontiguousarray(activations, dtype=np.uint8)
    blocks = weights.shape[1] // t.block_bytes
    if activations.shape != (weights.shape[0], blocks * t.activation.block_bytes):
        raise ValueError(f"activations of shape {activations.shape} do not match weights of shape {weights.shape}")
    out = np.empty((weights.shape[0], blocks), dtype=np.int32)
    sizes = t.block_bytes, t.activation.block_bytes
    if t.is_trellis:
        _trellis_dot_rows(weights, activations, *sizes, trellis_tables(t), t.width, out)
    else:
        tables = _tables(t)
        _dot_rows(weights, activations, *sizes, tables.bits, tables.low_bits, tables.levels, t.width, out)
    return out


@njit(parallel=True, nogil=True)
def _dot_rows(weights, activations, block_bytes, activation_bytes, bits, low_bits, levels, width, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(weights.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(out.shape[1]):
            packed = weights[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_block(packed[2:], bits, low_bits, levels, v)
            out[row, block] = dot_block(v, activations[row, block * activation_bytes : (block + 1) * activation_bytes])


@njit(parallel=True, nogil=True)
def _trellis_dot_rows(weights, activations, block_bytes, activation_bytes, tables, width, out):  # type: ignore[no-untyped-def]
    for row in numba.prange(weights.shape[0]):
        v = np.empty(width, dtype=np.int32)
        for block in range(out.shape[1]):
            packed = weights[row, block * block_bytes : (block + 1) * block_bytes]
            levels_of_trellis_block(packed[2:], tables, v)
            out[row, block] = dot_block(v, activations[row, block * activation_bytes : (block + 1) * activation_bytes])
