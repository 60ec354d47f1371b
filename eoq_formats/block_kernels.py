"""One block at a time, compiled by numba. `eoq_formats.kernels` runs these over rows; `reference` says what they do."""

import math

import numpy as np
from numba import types
from numba.extending import intrinsic

from eoq_formats.compiled import njit
from eoq_formats.reference import GRID_TOLERANCE, INPUT_LIMIT, LEVEL_UNIT, MAX_SCALE, REFITS, SMALLEST_ACTIVATION

STATUS_OK = 0
STATUS_NON_FINITE = 1
STATUS_SCALE_OVERFLOW = 2

_LEVEL_UNIT = np.float32(LEVEL_UNIT)
_ONE = np.float32(1)
_TWO = np.float32(2)
_LOW_CLAMP = np.float32(-128)
_HIGH_CLAMP = np.float32(127.5)
_INT8_MAX = np.float32(127)

_inline = njit(inline="never", nogil=True)


@_inline
def transform(v):  # type: ignore[no-untyped-def]
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
def sum_by_halves(x):  # type: ignore[no-untyped-def]
    """Sum of a float64 array whose length is a power of two, destroying it: upper half onto lower half."""
    half = x.shape[0] // 2
    while half > 0:
        for i in range(half):
            x[i] += x[i + half]
        half //= 2
    return x[0]


@intrinsic
def float_bits(typing_context, x):  # type: ignore[no-untyped-def]
    """Bits of a float32 as an int32, without a detour through memory."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.int32(types.float32), generate


@intrinsic
def bits_float(typing_context, x):  # type: ignore[no-untyped-def]
    """The float32 that has the bits of an int32."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return types.float32(types.int32), generate


@_inline
def fp16_bits(scale):  # type: ignore[no-untyped-def]
    """Bits of a non-negative float64: rounded to float32, saturated at 65504, rounded to fp16 (nearest even)."""
    x = min(np.float32(scale), MAX_SCALE)
    if x < np.float32(2.0**-14):  # fp16 subnormal: a multiple of 2^-24
        return np.int32(np.rint(x * np.float32(2.0**24)))
    bits = float_bits(x)
    bits += 0xFFF + (bits >> 13 & 1)
    return np.int32((bits >> 13) - ((127 - 15) << 10))


@_inline
def fp16_value(bits):  # type: ignore[no-untyped-def]
    """Float32 value of fp16 bits, any sign, infinities and NaN included."""
    exponent = bits >> 10 & 0x1F
    mantissa = bits & 0x3FF
    if exponent == 0:
        value = np.float32(mantissa) * np.float32(2.0**-24)
        return -value if bits & 0x8000 else value
    exponent = 255 if exponent == 31 else exponent + 127 - 15
    return bits_float(np.int32((bits & 0x8000) << 16 | exponent << 23 | mantissa << 13))


@njit(nogil=True, inline="always")
def place_of(value):  # type: ignore[no-untyped-def]
    """Where a codebook's `code_of_doubled` has the code for a value in units; NaN counts as the least."""
    # min and max would let NaN through, whose place is outside the table
    value = value if value > _LOW_CLAMP else _LOW_CLAMP
    value = value if value < _HIGH_CLAMP else _HIGH_CLAMP
    return np.int32(np.floor(value * _TWO)) + 256


@_inline
def _nearest(v, unit, levels, doubled, nearest):  # type: ignore[no-untyped-def]
    """Nearest levels (int16) by counting the steps below each value; `doubled` (int16) is work space.

    Every loop over the block is free of look-ups, so that LLVM turns it into vector code.
    """
    width = v.shape[0]
    half = levels.shape[0] // 2
    inverse = _ONE / unit
    for i in range(width):
        r = min(max(v[i] * inverse, _LOW_CLAMP), _HIGH_CLAMP)
        doubled[i] = np.int16(np.int32(np.floor(r * _TWO)))
        nearest[i] = np.int16(levels[half])
    # the table is symmetric: -1 - x mirrors x, and a tie goes up on both sides
    for k in range(half, 2 * half - 1):
        boundary = np.int16(levels[k]) + np.int16(levels[k + 1])
        step = np.int16(levels[k + 1]) - np.int16(levels[k])
        for i in range(width):
            nearest[i] += np.int16(step if doubled[i] ^ (doubled[i] >> 15) >= boundary else 0)
    for i in range(width):
        negative = doubled[i] >> 15
        nearest[i] = (nearest[i] ^ negative) - negative


@_inline
def _fit(v, energy, levels, factor, doubled, nearest, scratch):  # type: ignore[no-untyped-def]
    """Scale bits from the RMS, then refitted; leaves the levels in `nearest`."""
    width = v.shape[0]
    to_rotated = width * LEVEL_UNIT
    d = fp16_bits(math.sqrt(energy / width) / factor / to_rotated)
    if d == 0:
        return d
    _nearest(v, fp16_value(d) * np.float32(to_rotated), levels, doubled, nearest)
    for _ in range(REFITS):
        squares = np.int32(0)
        for i in range(width):
            squares += np.int32(nearest[i]) * np.int32(nearest[i])
            scratch[i] = np.float64(v[i]) * np.float64(nearest[i])
        d = fp16_bits(sum_by_halves(scratch) / np.float64(squares) / to_rotated)
        if d == 0:
            return d
        _nearest(v, fp16_value(d) * np.float32(to_rotated), levels, doubled, nearest)
    return d


@_inline
def _grid(v, largest, lowest, levels, code_of, codes):  # type: ignore[no-untyped-def]
    """Scale bits of the first grid that the block lies on, trying levels[lowest] last; 0 if on none.

    Leaves the codes in `codes`, untouched if there is no grid.
    """
    width = v.shape[0]
    to_rotated = width * LEVEL_UNIT
    tolerance = GRID_TOLERANCE * largest
    trial = np.empty(0, dtype=np.uint8)
    for top in range(levels.shape[0] - 1, lowest - 1, -1):
        wanted = np.float64(largest) / np.float64(levels[top]) / to_rotated
        # on a grid, the scale wanted is within 2^-20 of an fp16 number: 13 float32 bits, nearly all 0 or all 1
        bits = float_bits(np.float32(wanted))
        if (bits + 20) & 0x1FFF > 40 and wanted > 2.0**-14:
            continue
        d = fp16_bits(wanted)
        if d == 0:
            continue
        unit = fp16_value(d) * np.float32(to_rotated)
        inverse = _ONE / unit
        if trial.shape[0] == 0:
            trial = np.empty(width, dtype=np.uint8)
        on_grid = True
        for i in range(width):
            trial[i] = code_of[place_of(v[i] * inverse)]
            if abs(v[i] - np.float32(levels[trial[i]]) * unit) > tolerance:
                on_grid = False
                break
        if on_grid:
            codes[:] = trial
            return d
    return np.int32(0)


@_inline
def pack_codes(codes, bits, low_bits, planes):  # type: ignore[no-untyped-def]
    """Codes uint8 (w,) into the bit planes of a block of a scalar type."""
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
def levels_of_block(planes, bits, low_bits, levels, v):  # type: ignore[no-untyped-def]
    """Levels int32 (w,) of the packed codes of a scalar type."""
    width = v.shape[0]
    low_bytes = low_bits * width // 8
    if low_bits == 4:
        for j in range(low_bytes):
            v[j] = planes[j] & 15
            v[j + low_bytes] = planes[j] >> 4
    else:
        for j in range(low_bytes):
            v[j], v[j + low_bytes] = planes[j] & 3, planes[j] >> 2 & 3
            v[j + 2 * low_bytes], v[j + 3 * low_bytes] = planes[j] >> 4 & 3, planes[j] >> 6
    start = low_bytes
    for bit in range(low_bits, bits):
        for i in range(width):
            v[i] |= (np.int32(planes[start + (i >> 3)]) >> (i & 7) & 1) << bit
        start += width // 8
    for i in range(width):
        v[i] = levels[v[i]]


@_inline
def quantize_block(x, bits, low_bits, sign, levels, code_of, factor, work, out):  # type: ignore[no-untyped-def]
    """Quantise one block x into the bytes `out`; `work` is make_work's.

    Returns status, energy and squared error of the block.
    """
    v, scratch, doubled, nearest, codes = work
    width = x.shape[0]
    finite = True
    for i in range(width):
        finite &= np.isfinite(x[i])
        v[i] = min(max(x[i], -INPUT_LIMIT), INPUT_LIMIT) * sign[i]
    if not finite:
        out[:] = 0
        out[1] = 0x7E  # a scale of NaN, so that every check of the row finds it
        return STATUS_NON_FINITE, 0.0, 0.0
    transform(v)
    largest = np.int32(0)
    for i in range(width):
        largest = max(largest, float_bits(abs(v[i])))
        scratch[i] = np.float64(v[i]) * np.float64(v[i])
    energy = sum_by_halves(scratch)

    d = _grid(v, bits_float(largest), levels.shape[0] // 2, levels, code_of, codes)
    if d == 0:
        d = _fit(v, energy, levels, factor, doubled, nearest, scratch)
        if d == 0:
            out[:] = 0
            return STATUS_OK, energy / width, energy / width
        unit = fp16_value(d) * np.float32(width * LEVEL_UNIT)
        for i in range(width):
            decoded = np.float32(nearest[i]) * unit
            difference = np.float64(v[i]) - np.float64(decoded)
            scratch[i] = difference * difference
            v[i] = decoded
            codes[i] = code_of[2 * nearest[i] + 256]
        error = sum_by_halves(scratch)
        # of several exact descriptions of the same weights, keep the one with the largest top level
        used = levels.shape[0] // 2
        for i in range(width):
            used = max(used, codes[i], levels.shape[0] - 1 - codes[i])
        if used < levels.shape[0] - 1:
            canonical = _grid(v, np.float32(levels[used]) * unit, used + 1, levels, code_of, codes)
            d = d if canonical == 0 else canonical
    else:
        unit = fp16_value(d) * np.float32(width * LEVEL_UNIT)
        for i in range(width):
            difference = np.float64(v[i]) - np.float64(np.float32(levels[codes[i]]) * unit)
            scratch[i] = difference * difference
        error = sum_by_halves(scratch)
    out[0] = d & 0xFF
    out[1] = d >> 8
    pack_codes(codes, bits, low_bits, out[2:])
    status = STATUS_SCALE_OVERFLOW if d == 0x7BFF else STATUS_OK
    return status, energy / width, error / width


@_inline
def make_work(width):  # type: ignore[no-untyped-def]
    """Work space of quantize_block, one for each thread."""
    return (
        np.empty(width, dtype=np.float32),
        np.empty(width, dtype=np.float64),
        np.empty(width, dtype=np.int16),
        np.empty(width, dtype=np.int16),
        np.empty(width, dtype=np.uint8),
    )


@_inline
def weights_of_levels(v, data, sign, out):  # type: ignore[no-untyped-def]
    """Levels v, int32 (w,), which are used up, and the scale of a block to weights."""
    transform(v)
    scale = fp16_value(np.int32(data[0]) | np.int32(data[1]) << 8) * _LEVEL_UNIT
    for i in range(v.shape[0]):
        out[i] = np.float32(v[i] * np.int32(sign[i])) * scale


@_inline
def scale_levels(v, data, out):  # type: ignore[no-untyped-def]
    """Levels v, int32 (w,), and the scale of a block to rotated weights."""
    scale = fp16_value(np.int32(data[0]) | np.int32(data[1]) << 8) * _LEVEL_UNIT
    for i in range(v.shape[0]):
        out[i] = np.float32(v[i]) * scale


@_inline
def quantize_activation_block(x, sign, v, out):  # type: ignore[no-untyped-def]
    width = sign.shape[0]
    for i in range(width):
        v[i] = x[i] * sign[i]
    transform(v)
    bits = v.view(np.int32)
    largest = np.int32(0)
    for i in range(width):
        largest = max(largest, bits[i] & np.int32(0x7FFFFFFF))
    header = out[:8].view(np.int32)
    scale = out[:4].view(np.float32)
    amax = bits_float(largest)
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
def dot_block(v, activations):  # type: ignore[no-untyped-def]
    """Levels int32 (w,) times the values of a block of activations."""
    total = np.int32(0)
    for i in range(v.shape[0]):
        total += v[i] * np.int32(np.int8(activations[8 + i]))
    return total
