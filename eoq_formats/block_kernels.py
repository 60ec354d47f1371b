"""One block at a time, compiled by numba. `eoq_formats.kernels` runs these over rows; `reference` says what they do."""

import math

import numba
import numpy as np

from eoq_formats.reference import (
    GRID_TOLERANCE,
    INPUT_LIMIT,
    LEVEL_UNIT,
    MAX_SCALE,
    REFITS,
    SMALLEST_ACTIVATION,
)

STATUS_OK = 0
STATUS_NON_FINITE = 1
STATUS_SCALE_OVERFLOW = 2

_LEVEL_UNIT = np.float32(LEVEL_UNIT)
_ONE = np.float32(1)
_TWO = np.float32(2)
_LOW_CLAMP = np.float32(-128)
_HIGH_CLAMP = np.float32(127.5)
_INT8_MAX = np.float32(127)

_inline = numba.njit(cache=True, inline="never", nogil=True)


@_inline
def _transform(v):  # type: ignore[no-untyped-def]
    """Unnormalised Walsh-Hadamard transform in place."""
    width = v.shape[0]
    # strides 1, 2 and 4 in one pass over groups of eight: the additions are those of the plain butterflies
    for i in range(0, width, 8):
        a0, a1, a2, a3 = v[i] + v[i + 1], v[i] - v[i + 1], v[i + 2] + v[i + 3], v[i + 2] - v[i + 3]
        a4, a5, a6, a7 = v[i + 4] + v[i + 5], v[i + 4] - v[i + 5], v[i + 6] + v[i + 7], v[i + 6] - v[i + 7]
        b0, b1, b2, b3 = a0 + a2, a1 + a3, a0 - a2, a1 - a3
        b4, b5, b6, b7 = a4 + a6, a5 + a7, a4 - a6, a5 - a7
        v[i], v[i + 1], v[i + 2], v[i + 3] = b0 + b4, b1 + b5, b2 + b6, b3 + b7
        v[i + 4], v[i + 5], v[i + 6], v[i + 7] = b0 - b4, b1 - b5, b2 - b6, b3 - b7
    stride = 8
    while stride < width:
        for start in range(0, width, 2 * stride):
            for i in range(start, start + stride):
                low, high = v[i], v[i + stride]
                v[i] = low + high
                v[i + stride] = low - high
        stride *= 2


@_inline
def _sum_by_halves(x):  # type: ignore[no-untyped-def]
    """Sum of a float64 array whose length is a power of two, destroying it: upper half onto lower half."""
    half = x.shape[0] // 2
    while half > 0:
        for i in range(half):
            x[i] += x[i + half]
        half //= 2
    return x[0]


@_inline
def _float_bits(x):  # type: ignore[no-untyped-def]
    one = np.empty(1, dtype=np.float32)
    one[0] = x
    return one.view(np.int32)[0]


@_inline
def fp16_bits(scale):  # type: ignore[no-untyped-def]
    """Bits of a non-negative float64: rounded to float32, saturated at 65504, rounded to fp16 (nearest even)."""
    x = min(np.float32(scale), MAX_SCALE)
    if x < np.float32(2.0**-14):  # fp16 subnormal: a multiple of 2^-24
        return np.int32(np.rint(x * np.float32(2.0**24)))
    bits = _float_bits(x)
    bits += 0xFFF + (bits >> 13 & 1)
    return np.int32((bits >> 13) - ((127 - 15) << 10))


@_inline
def fp16_value(bits):  # type: ignore[no-untyped-def]
    """Float32 value of fp16 bits, any sign, infinities and NaN included."""
    exponent = bits >> 10 & 0x1F
    mantissa = np.float32(bits & 0x3FF)
    if exponent == 0:
        value = mantissa * np.float32(2.0**-24)
    elif exponent == 31:
        value = np.float32(np.inf) if mantissa == 0 else np.float32(np.nan)
    else:
        value = np.float32(math.ldexp(np.float64(mantissa + np.float32(1024)), exponent - 25))
    return -value if bits & 0x8000 else value


@_inline
def _nearest_codes(v, unit, code_of, codes):  # type: ignore[no-untyped-def]
    inverse = _ONE / unit
    for i in range(v.shape[0]):
        doubled = min(max(v[i] * inverse, _LOW_CLAMP), _HIGH_CLAMP) * _TWO
        codes[i] = code_of[np.int32(np.floor(doubled)) + 256]


@_inline
def _fit(v, energy, levels, code_of, factor, codes, scratch):  # type: ignore[no-untyped-def]
    """Scale bits from the RMS, then refitted; leaves the codes in `codes`."""
    width = v.shape[0]
    to_rotated = width * LEVEL_UNIT
    d = fp16_bits(math.sqrt(energy / width) / factor / to_rotated)
    if d == 0:
        return d
    _nearest_codes(v, fp16_value(d) * np.float32(to_rotated), code_of, codes)
    for _ in range(REFITS):
        squares = np.int64(0)
        for i in range(width):
            level = np.int64(levels[codes[i]])
            squares += level * level
            scratch[i] = np.float64(v[i]) * np.float64(level)
        d = fp16_bits(_sum_by_halves(scratch) / np.float64(squares) / to_rotated)
        if d == 0:
            return d
        _nearest_codes(v, fp16_value(d) * np.float32(to_rotated), code_of, codes)
    return d


@_inline
def _grid(v, largest, levels, code_of, codes):  # type: ignore[no-untyped-def]
    """Scale bits of the first grid that the block lies on, with its codes; -1 if on none."""
    width = v.shape[0]
    to_rotated = width * LEVEL_UNIT
    tolerance = GRID_TOLERANCE * largest
    for top in range(levels.shape[0] - 1, levels.shape[0] // 2 - 1, -1):
        d = fp16_bits(np.float64(largest) / np.float64(levels[top]) / to_rotated)
        if d == 0:
            continue
        unit = fp16_value(d) * np.float32(to_rotated)
        inverse = _ONE / unit
        on_grid = True
        for i in range(width):
            doubled = min(max(v[i] * inverse, _LOW_CLAMP), _HIGH_CLAMP) * _TWO
            code = code_of[np.int32(np.floor(doubled)) + 256]
            if abs(v[i] - np.float32(levels[code]) * unit) > tolerance:
                on_grid = False
                break
            codes[i] = code
        if on_grid:
            return d
    return np.int32(-1)


@_inline
def _pack(codes, bits, low_bits, planes):  # type: ignore[no-untyped-def]
    width = codes.shape[0]
    low_bytes = low_bits * width // 8
    if low_bits == 4:
        for j in range(low_bytes):
            planes[j] = (codes[j] & 15) | (codes[j + low_bytes] & 15) << 4
    else:
        for j in range(low_bytes):
            low, high = codes[j] & 3 | (codes[j + low_bytes] & 3) << 2, codes[j + 2 * low_bytes] & 3
            planes[j] = low | high << 4 | (codes[j + 3 * low_bytes] & 3) << 6
    start = low_bytes
    for bit in range(low_bits, bits):
        for j in range(width // 8):
            byte = 0
            for i in range(8):
                byte |= (codes[8 * j + i] >> bit & 1) << i
            planes[start + j] = byte
        start += width // 8


@_inline
def _code(planes, i, width, bits, low_bits):  # type: ignore[no-untyped-def]
    """Code i of a packed block."""
    low_bytes = low_bits * width // 8
    code = planes[i % low_bytes] >> (low_bits * (i // low_bytes)) & ((1 << low_bits) - 1)
    start = low_bytes
    for bit in range(low_bits, bits):
        code |= (planes[start + i // 8] >> (i % 8) & 1) << bit
        start += width // 8
    return code


@_inline
def quantize_block(x, bits, low_bits, sign, levels, code_of, factor, v, codes, scratch, out):  # type: ignore[no-untyped-def]
    """Quantise one block x into the bytes `out`; v, codes and scratch are work space.

    Returns status, energy and squared error of the block.
    """
    width = x.shape[0]
    finite = True
    for i in range(width):
        finite &= np.isfinite(x[i])
        v[i] = min(max(x[i], -INPUT_LIMIT), INPUT_LIMIT) * sign[i]
    if not finite:
        out[:] = 0
        return STATUS_NON_FINITE, 0.0, 0.0
    _transform(v)
    largest = np.float32(0)
    for i in range(width):
        largest = max(largest, abs(v[i]))
        scratch[i] = np.float64(v[i]) * np.float64(v[i])
    energy = _sum_by_halves(scratch)

    d = _grid(v, largest, levels, code_of, codes)
    fitted = d < 0
    if fitted:
        d = _fit(v, energy, levels, code_of, factor, codes, scratch)
    if d == 0:
        out[:] = 0
        return STATUS_OK, energy / width, energy / width
    unit = fp16_value(d) * np.float32(width * LEVEL_UNIT)
    error = 0.0
    for i in range(width):
        difference = np.float64(v[i]) - np.float64(np.float32(levels[codes[i]]) * unit)
        scratch[i] = difference * difference
    error = _sum_by_halves(scratch)

    if fitted:
        top = np.int8(0)
        for i in range(width):
            v[i] = np.float32(levels[codes[i]]) * unit
            top = max(top, abs(levels[codes[i]]))
        if top != levels[-1]:  # a block that uses the largest level is described by it already
            d = _grid(v, np.float32(top) * unit, levels, code_of, codes)
    out[0] = d & 0xFF
    out[1] = d >> 8
    _pack(codes, bits, low_bits, out[2:])
    status = STATUS_SCALE_OVERFLOW if d == 0x7BFF else STATUS_OK
    return status, energy / width, error / width


@_inline
def dequantize_block(data, bits, low_bits, sign, levels, v, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    planes = data[2:]
    for i in range(width):
        v[i] = levels[_code(planes, i, width, bits, low_bits)]
    _transform(v)
    scale = fp16_value(np.int32(data[0]) | np.int32(data[1]) << 8) * _LEVEL_UNIT
    for i in range(width):
        out[i] = np.float32(v[i] * np.int32(sign[i])) * scale


@_inline
def quantize_activation_block(x, sign, v, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    for i in range(width):
        v[i] = x[i] * sign[i]
    _transform(v)
    bits = v.view(np.int32)
    largest = np.int32(0)
    for i in range(width):
        largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
    header = out[:8].view(np.int32)
    scale = out[:4].view(np.float32)
    one = np.empty(1, dtype=np.int32)
    one[0] = largest
    amax = one.view(np.float32)[0]
    total = np.int32(0)
    if amax >= SMALLEST_ACTIVATION and np.isfinite(amax):
        inverse = _INT8_MAX / amax
        for i in range(width):
            q = np.int32(np.rint(v[i] * inverse))
            total += q
            out[8 + i] = np.uint8(q & 0xFF)
        scale[0] = amax / _INT8_MAX
    else:
        out[8:] = 0
        scale[0] = np.float32(0) if np.isfinite(amax) else amax / _INT8_MAX
    header[1] = total


@_inline
def dot_block(weights, activations, bits, low_bits, levels, width):  # type: ignore[no-untyped-def]
    planes = weights[2:]
    total = np.int32(0)
    for i in range(width):
        level = np.int32(levels[_code(planes, i, width, bits, low_bits)])
        total += level * np.int32(np.int8(activations[8 + i]))
    return total
