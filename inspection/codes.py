"""The codes of EOQ tensors counted, and what Gaussian weights would give."""

import math
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.block_kernels import levels_of_block
from eoq_formats.codebooks import cell_probabilities, codebook
from eoq_formats.compiled import njit
from eoq_formats.packing import PLANES
from eoq_formats.trellis import code_of
from eoq_formats.trellis_kernels import levels_of_trellis_block, trellis_tables
from eoq_formats.types import SCALE_BYTES, WeightType
from gguf_files.weights import Bytes

Counts = NDArray[np.int64]

_LEVELS = 256
_PIECES = 64
"""Parts of the rows that are counted at once, each for itself."""
_BINS = np.arange(-4, 4.5, 0.5)
"""Edges of the bins that decoded levels of trellis types are counted in, in standard deviations of the weights."""


@dataclass(frozen=True)
class Histogram:
    """Shares of what stands side by side in a chart."""

    labels: tuple[float, ...]
    """Of scalar types the level of each code; of trellis types the middle of each bin. In standard deviations."""
    found: NDArray[np.float64]
    """float64 (labels,), adding up to 1."""
    expected: NDArray[np.float64]
    """Of Gaussian weights."""


@dataclass(frozen=True)
class CodeCounts:
    """What the blocks of a tensor, or of all of a type, hold. Blocks of zeros, which have no codes, are left out."""

    type: WeightType
    levels: Counts
    """int64 (256,): weights by their level + 128."""
    bytes: Counts
    """int64 (256,): bytes of codes by their value."""
    zero_blocks: int
    scales: tuple[float, float]
    """Smallest and largest scale d but zero, and NaN; (infinity, 0) where there is none."""

    def __add__(self, other: "CodeCounts") -> "CodeCounts":
        scales = min(self.scales[0], other.scales[0]), max(self.scales[1], other.scales[1])
        zeros = self.zero_blocks + other.zero_blocks
        return CodeCounts(self.type, self.levels + other.levels, self.bytes + other.bytes, zeros, scales)

    @property
    def weights(self) -> int:
        return int(self.levels.sum())

    @cached_property
    def entropy(self) -> float:
        """Bits a weight of the codes, each by itself, at least: what an entropy coder could bring them down to.

        Of trellis types, whose codes are parts of a chain, that of the bytes: four codes of 2 bits, two of 4.
        """
        if self.type.is_trellis:
            return entropy(self.bytes) / 8 * self.type.bits
        return entropy(self.levels)

    @property
    def expected_entropy(self) -> float:
        """Of Gaussian weights; codes of a trellis are all about as frequent."""
        if self.type.is_trellis:
            return float(self.type.bits)
        return entropy(cell_probabilities(_real_levels(self.type)))

    @property
    def deviation(self) -> float:
        """Standard deviation of the decoded values, in those of the weights as the scales give them."""
        values = (np.arange(_LEVELS) - 128) / code_of(self.type).factor
        return math.sqrt(float(np.dot(self.levels, values**2)) / max(1, self.weights))

    @property
    def expected_deviation(self) -> float:
        """Values that are the means of what they stand for have the weights' energy less the error."""
        return math.sqrt(1 - code_of(self.type).mse)

    @property
    def histogram(self) -> Histogram:
        if self.type.is_trellis:
            return _binned(self.levels, self.type)
        book = codebook(self.type.bits)
        found = self.levels[book.levels.astype(np.int64) + 128]
        real = _real_levels(self.type)
        return Histogram(tuple(real.tolist()), found / max(1, self.weights), cell_probabilities(real))

    @property
    def divergence(self) -> float:
        """Kullback-Leibler divergence of the histogram from the expected one, in bits."""
        h = self.histogram
        some = h.found > 0
        return float(np.dot(h.found[some], np.log2(h.found[some] / h.expected[some])))


def entropy(weights: Counts | NDArray[np.float64]) -> float:
    """Bits, of counts or probabilities; 0 of nothing."""
    total = float(weights.sum())
    p = weights[weights > 0] / total if total else np.empty(0)
    return abs(float(np.dot(p, np.log2(p))))


def _real_levels(t: WeightType) -> NDArray[np.float64]:
    """Levels of a scalar type in standard deviations."""
    book = codebook(t.bits)
    return book.levels.astype(np.float64) / book.factor


def _binned(levels: Counts, t: WeightType) -> Histogram:
    """Decoded levels, and a Gaussian of their expected deviation, in bins; the outer ones have all beyond them."""
    code = code_of(t)
    values = np.clip((np.arange(_LEVELS) - 128) / code.factor, _BINS[0], _BINS[-1])
    found, _ = np.histogram(values, _BINS, weights=levels / max(1, int(levels.sum())))
    inner = _BINS[1:-1] / math.sqrt(2 * (1 - code.mse))
    below = np.array([0.0, *(0.5 * (1 + math.erf(x)) for x in inner), 1.0])
    middles = (_BINS[:-1] + _BINS[1:]) / 2
    return Histogram(tuple(middles.tolist()), found, np.diff(below))


def count_codes(stored: Bytes, t: WeightType) -> CodeCounts:
    """Count rows uint8 (rows, row bytes)."""
    blocks = stored.reshape(-1, t.block_bytes)
    scales = np.abs(np.ascontiguousarray(blocks[:, :SCALE_BYTES]).view("<f2")[:, 0].astype(np.float32))
    some = scales[scales > 0]
    levels, counts = np.zeros((2, _PIECES, _LEVELS), dtype=np.int64)
    if t.is_trellis:
        _count_trellis(blocks, scales, trellis_tables(t), t.width, levels, counts)
    else:
        table = codebook(t.bits).levels
        _count_scalar(blocks, scales, t.bits, PLANES[t.bits][0], table, t.width, levels, counts)
    extent = (float(some.min()), float(some.max())) if some.size else (math.inf, 0.0)
    return CodeCounts(t, levels.sum(axis=0), counts.sum(axis=0), int((scales == 0).sum()), extent)


@njit(parallel=True, nogil=True)
def _count_scalar(blocks, scales, bits, low_bits, table, width, levels, counts):  # type: ignore[no-untyped-def]
    count, pieces = blocks.shape[0], levels.shape[0]
    for piece in numba.prange(pieces):
        v = np.empty(width, dtype=np.int32)
        for block in range(count * piece // pieces, count * (piece + 1) // pieces):
            if scales[block] != 0:
                codes = blocks[block, 2:]
                levels_of_block(codes, bits, low_bits, table, v)
                for i in range(width):
                    levels[piece, v[i] + 128] += 1
                for i in range(codes.shape[0]):
                    counts[piece, codes[i]] += 1


@njit(parallel=True, nogil=True)
def _count_trellis(blocks, scales, tables, width, levels, counts):  # type: ignore[no-untyped-def]
    count, pieces = blocks.shape[0], levels.shape[0]
    for piece in numba.prange(pieces):
        v = np.empty(width, dtype=np.int32)
        for block in range(count * piece // pieces, count * (piece + 1) // pieces):
            if scales[block] != 0:
                codes = blocks[block, 2:]
                levels_of_trellis_block(codes, tables, v)
                for i in range(width):
                    levels[piece, v[i] + 128] += 1
                for i in range(codes.shape[0]):
                    counts[piece, codes[i]] += 1
