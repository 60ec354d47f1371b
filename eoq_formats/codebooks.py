"""Lloyd-Max codebooks of the standard normal distribution, and their int8 tables.

Source: S. P. Lloyd, "Least squares quantization in PCM" (1982); J. Max, "Quantizing for minimum distortion" (1960).
The tables are computed here and nowhere else: `eoq_formats.headers.c_header` writes them into the C header.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

MAX_LEVEL = 127
"""Largest int8 level; -128 stays unused so that tables are symmetric."""

_FACTOR_STEP = 1 / 1024
"""Factors are multiples of this, so that each is exact in float32 and the same in every language."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


@dataclass(frozen=True)
class Codebook:
    """The levels of one bit rate.

    bits        bits of a code
    real_levels float64 (2^bits,), optimal levels for N(0, 1), increasing
    real_mse    their mean squared error on N(0, 1)
    levels      int8 (2^bits,), the table that files are read with, symmetric and strictly increasing
    factor      int8 level units per standard deviation: levels / factor approximates real_levels
    mse         mean squared error of levels / factor on N(0, 1)
    """

    bits: int
    real_levels: NDArray[np.float64]
    real_mse: float
    levels: NDArray[np.int8]
    factor: float
    mse: float

    @property
    def doubled_boundaries(self) -> NDArray[np.int16]:
        """int16 (2^bits - 1,): twice the midpoints between neighbouring levels, which are integers."""
        wide = self.levels.astype(np.int16)
        return wide[:-1] + wide[1:]

    @property
    def code_of_doubled(self) -> NDArray[np.uint8]:
        """uint8 (512,): the code of a value r in level units, indexed by floor(2 r) + 256.

        Exact because every boundary is a multiple of 1/2. A value on a boundary takes the upper code.
        """
        doubled = np.arange(-256, 256)
        return np.searchsorted(self.doubled_boundaries, doubled, side="right").astype(np.uint8)


def _density(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


def _cumulative(x: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 0.5 * (1 + _erf(x / math.sqrt(2)))
    return result


def _cells(levels: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability and first moment of N(0, 1) in the nearest-level cell of each level."""
    edges = (levels[:-1] + levels[1:]) / 2
    density = np.concatenate(([0.0], _density(edges), [0.0]))
    cumulative = np.concatenate(([0.0], _cumulative(edges), [1.0]))
    return np.diff(cumulative), density[:-1] - density[1:]


def cell_probabilities(levels: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 (levels,): how often N(0, 1) is nearest to each level; levels float64, increasing."""
    return _cells(levels)[0]


def gaussian_mse(levels: NDArray[np.float64]) -> float:
    """Mean squared error of nearest-level quantisation of N(0, 1); levels float64, increasing."""
    probability, moment = _cells(levels)
    return float(1 - 2 * np.dot(levels, moment) + np.dot(levels * levels, probability))


def _lloyd_max(bits: int) -> NDArray[np.float64]:
    """Levels float64 (2^bits,) at which every level is the mean of its cell, converged to 1e-12.

    Newton's method on the positive half: plain Lloyd iteration needs tens of thousands of rounds at 6 bits.
    """
    half = 2 ** (bits - 1)
    # start: the density of optimal levels is proportional to the cube root of N(0, 1)'s density (Panter-Dite)
    positive = math.sqrt(3) * _normal_quantile((np.arange(half) + 0.5) / (2 * half) + 0.5)

    def residual(x: NDArray[np.float64]) -> NDArray[np.float64]:
        probability, moment = _cells(np.concatenate((-x[::-1], x)))
        mean: NDArray[np.float64] = moment[half:] / probability[half:]
        return x - mean

    for _ in range(100):  # a few plain rounds bring Newton's method into its basin
        positive = positive - residual(positive)
    for _ in range(50):
        jacobian = np.empty((half, half))
        for i in range(half):
            step = np.zeros(half)
            step[i] = 1e-6
            jacobian[:, i] = (residual(positive + step) - residual(positive - step)) / 2e-6
        change = np.linalg.solve(jacobian, residual(positive))
        positive = positive - change
        if np.abs(change).max() < 1e-12:
            return np.concatenate((-positive[::-1], positive))
    raise AssertionError(f"Lloyd-Max levels of {bits} bits did not converge")


def _normal_quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of the normal distribution function by bisection; p float64 in (0.5, 1)."""
    low, high = np.zeros_like(p), np.full_like(p, 10.0)
    for _ in range(60):
        middle = (low + high) / 2
        above = _cumulative(middle) > p
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return (low + high) / 2


def _best_factor(table: NDArray[np.float64], start: float) -> tuple[float, float]:
    """The factor (a multiple of 2^-10) near `start` with the least error of table / factor, and that error."""
    step, factor = 0.25, start
    best = gaussian_mse(table / factor)
    while step >= _FACTOR_STEP:
        for candidate in (factor - step, factor + step):
            mse = gaussian_mse(table / candidate)
            if mse < best:
                factor, best = candidate, mse
                break
        else:
            step /= 2
    return factor, best


@cache
def codebook(bits: int) -> Codebook:
    """The codebook of `bits` (2 to 6) bits.

    Factors from 0.6 to 1 times the largest that keeps |level| <= 127 are searched: smaller ones waste int8
    resolution. Tables that are equally good to 1e-6 (multiples of each other) count as one, the smallest.
    """
    real = _lloyd_max(bits)
    top = MAX_LEVEL / real[-1]
    seen: set[bytes] = set()
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for factor in np.arange(math.ceil(0.6 * top), top, 1 / 256):
        table = np.rint(real * factor)
        if table.tobytes() in seen or (np.diff(table) < 1).any():
            continue
        seen.add(table.tobytes())
        if best is not None and gaussian_mse(table / factor) > 1.01 * best[0]:
            continue
        refined, mse = _best_factor(table, float(factor))
        if best is None or mse < best[0] * (1 - 1e-6):
            best = mse, refined, table
    assert best is not None
    mse, factor, table = best
    return Codebook(bits, real, gaussian_mse(real), table.astype(np.int8), factor, mse)
