"""Codes and scales of rows in two arrays, where a block of docs/format.md has both: every byte is the same."""

import numpy as np
from numpy.typing import NDArray

from eoq_formats.types import SCALE_BYTES, WeightType

Bytes = NDArray[np.uint8]
Scales = NDArray[np.float16]


def code_bytes(t: WeightType) -> int:
    """Bytes of the codes of a block, without its scale."""
    return t.block_bytes - SCALE_BYTES


def split(rows: Bytes, t: WeightType) -> tuple[Bytes, Scales]:
    """Rows of blocks uint8 (…, blocks * t.block_bytes) to codes and scales.

    The codes are uint8 (…, blocks * code_bytes(t)), block after block in the planes of docs/format.md; the scales are
    float16 (…, blocks).
    """
    blocks = rows.reshape(*rows.shape[:-1], -1, t.block_bytes)
    scales = np.ascontiguousarray(blocks[..., :SCALE_BYTES]).view("<f2")[..., 0]
    codes = np.ascontiguousarray(blocks[..., SCALE_BYTES:])
    return codes.reshape(*rows.shape[:-1], -1), scales


def joined(packed: Bytes, norms: Scales, t: WeightType) -> Bytes:
    """Codes and scales, as `split` gives them, to rows of blocks uint8 (…, blocks * t.block_bytes)."""
    blocks = np.empty((*norms.shape, t.block_bytes), dtype=np.uint8)
    blocks[..., :SCALE_BYTES] = np.ascontiguousarray(norms, dtype="<f2")[..., None].view(np.uint8)
    blocks[..., SCALE_BYTES:] = packed.reshape(*norms.shape, code_bytes(t))
    return blocks.reshape(*norms.shape[:-1], -1)
