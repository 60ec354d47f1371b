"""Codes in bit planes: a 4-bit or 2-bit plane for the low bits, then a 1-bit plane for every bit that remains.

Byte j of a plane holds codes j, j + w/n, j + 2 w/n, … from its lowest bits up, n of them. The 1-bit planes of the
scalar types differ: there byte j holds codes 8j to 8j + 7.
"""

import numpy as np
from numpy.typing import NDArray

from eoq_formats.types import WeightType

PLANES: dict[int, tuple[int, ...]] = {2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 1, 1)}
"""Bits of each plane, in the order of the file, lowest bits of the code first."""


def pack(codes: NDArray[np.uint8], t: WeightType) -> NDArray[np.uint8]:
    """Codes uint8 (..., width) to planes uint8 (..., bits * width // 8)."""
    planes = []
    shift = 0
    for plane_bits in PLANES[t.bits]:
        values = codes >> shift & (2**plane_bits - 1)
        if plane_bits == 1 and not t.is_trellis:
            planes.append(np.packbits(values, axis=-1, bitorder="little"))
        else:
            groups = values.reshape(*values.shape[:-1], 8 // plane_bits, -1)
            shifts = np.arange(0, 8, plane_bits, dtype=np.uint8)[:, None]
            planes.append(np.bitwise_or.reduce(groups << shifts, axis=-2))
        shift += plane_bits
    return np.concatenate(planes, axis=-1).astype(np.uint8)


def unpack(planes: NDArray[np.uint8], t: WeightType) -> NDArray[np.uint8]:
    """Planes uint8 (..., bits * width // 8) to codes uint8 (..., width)."""
    width = t.width
    codes = np.zeros((*planes.shape[:-1], width), dtype=np.uint8)
    shift = start = 0
    for plane_bits in PLANES[t.bits]:
        plane = planes[..., start : start + plane_bits * width // 8]
        if plane_bits == 1 and not t.is_trellis:
            values = np.unpackbits(plane, axis=-1, bitorder="little")
        else:
            groups = [plane >> plane_bits * i & (2**plane_bits - 1) for i in range(8 // plane_bits)]
            values = np.concatenate(groups, axis=-1)
        codes |= np.left_shift(values, shift, dtype=np.uint8)
        start += plane.shape[-1]
        shift += plane_bits
    return codes
