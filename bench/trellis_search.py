"""Searches matrices and tables of trellis codes: `python -m bench.trellis_search --bits 4 --seconds 600`.

Starts are random, and changes single ones; levels come from least squares over the paths that a Viterbi search finds on
Gaussian numbers (as the centroids of Lloyd's method do), and are rounded to integers last. It prints what
eoq_formats/trellis.py holds, with the error on numbers that the search has not seen. What is there was found in runs of
a few minutes; longer ones gain hundredths of a decibel.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numba
import numpy as np
from numpy.typing import NDArray

from eoq_formats.compiled import njit
from eoq_formats.trellis import NUMBER_MASKS, levels_of_windows, parities, trellis_code, trellis_windows
from eoq_formats.trellis_kernels import cheapest_path, make_trellis_work, trellis_steps

Vector = NDArray[np.float64]
WIDTH = 256
FACTOR = 20.0
"""Level units of a standard deviation while tables are real: fine enough for the search's half levels."""
MAX_LEVEL = {2: 15, 3: 31, 4: 63, 5: 127}
"""What the kernels can add in 16 bits, or hold in 8."""


@dataclass(frozen=True)
class Tables:
    """Real tables, in standard deviations, and masks as in TrellisCode."""

    bits: int
    first: Vector
    second: Vector
    masks: tuple[int, ...]

    def levels(self) -> Vector:
        """float64 (1 or 2, windows)"""
        return levels_of_windows(2 if self.bits < 4 else 4, self.first, self.second, self.masks)

    def parts(self, codes: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
        """Which entries of (first, second) each weight's level is the sum of; codes (blocks, w) in chain order."""
        code = trellis_code(self.bits)
        free, window = codes.astype(np.int64) >> code.code_bits, trellis_windows(codes, code)
        if self.bits < 4:
            return [16 * free + parities(window, self.masks)]
        history = window >> 8 ^ parities(window >> 4 & 15, self.masks)
        return [16 * free + (window & 15), len(self.first) + history]


@njit(parallel=True)
def _paths(targets, steps, codes):  # type: ignore[no-untyped-def]
    for block in numba.prange(targets.shape[0]):
        work = make_trellis_work(targets.shape[1])
        cheapest_path(targets[block], steps, work, codes[block])


def encode(x: Vector, tables: Tables) -> tuple[NDArray[np.uint8], float]:
    """Codes of numbers (blocks, w), and the mean squared error."""
    levels = tables.levels()
    code = replace(trellis_code(tables.bits), masks=tables.masks)
    steps = trellis_steps(np.rint(2 * FACTOR * levels).astype(np.int16), code)
    codes = np.empty(x.shape, dtype=np.uint8)
    targets = np.rint(2 * FACTOR * np.clip(x, levels.min() - 1.5, levels.max() + 1.5)).astype(np.int16)
    _paths(targets, steps, codes)
    missed = np.abs(x - levels[:, trellis_windows(codes, code)])
    nearer = missed.argmin(0)
    codes |= nearer.astype(np.uint8) << np.uint8(code.code_bits)
    return codes, float(np.square(missed.min(0)).mean())


def train(x: Vector, tables: Tables, rounds: int) -> tuple[Tables, float]:
    """The best of `rounds` fits of the tables to their own paths, and its error in decibels."""
    best, least = tables, np.inf
    for _ in range(rounds):
        codes, error = encode(x, tables)
        if error < least:
            best, least = tables, error
        tables = _fit(x, tables, codes)
    return best, -10 * float(np.log10(least))


def _fit(x: Vector, tables: Tables, codes: NDArray[np.uint8]) -> Tables:
    size = len(tables.first) + len(tables.second)
    parts = [part.reshape(-1) for part in tables.parts(codes)]
    right = sum(np.bincount(part, x.reshape(-1), size) for part in parts)
    pairs = sum(np.bincount(a * size + b, minlength=size * size) for a in parts for b in parts)
    matrix = np.asarray(pairs, dtype=np.float64).reshape(size, size)
    found = np.linalg.lstsq(matrix + 1e-9 * np.trace(matrix) * np.eye(size), right, rcond=None)[0]
    split = len(tables.first)
    second = found[split:] if tables.bits >= 4 else tables.second
    return replace(tables, first=found[:split], second=second)


def random_start(bits: int, random: np.random.Generator) -> Tables:
    count = 16 if bits % 2 == 0 else 32
    quantiles = np.quantile(random.standard_normal(100000), (np.arange(count) + 0.5) / count).astype(np.float64)
    if bits < 4:
        return Tables(bits, random.permutation(quantiles) * 1.05, np.zeros(16), NUMBER_MASKS)
    second = random.standard_normal(16) * random.uniform(0.25, 0.8)
    return Tables(bits, quantiles * 0.8, second, tuple(int(m) for m in random.integers(0, 16, 4)))


def changed(tables: Tables, random: np.random.Generator) -> Tables:
    """One bit of the masks, or some levels."""
    if random.random() < 0.5:
        place, masks = int(random.integers(4)), list(tables.masks)
        # the newest code stays out of the change: with 2 bits it has a part of the number for itself
        masks[place] ^= 1 << int(random.integers(4) if tables.bits >= 4 else random.integers(2, 10))
        return replace(tables, masks=tuple(masks))
    first = tables.first + 0.08 * random.standard_normal(len(tables.first)) * (random.random(len(tables.first)) < 0.5)
    second = tables.second + 0.08 * random.standard_normal(16) * (random.random(16) < 0.5) * (tables.bits >= 4)
    return replace(tables, first=first, second=second)


def search(bits: int, seconds: float, random: np.random.Generator) -> Tables:
    x, end = random.standard_normal((48, WIDTH)), time.monotonic() + seconds
    best, most = random_start(bits, random), -np.inf
    while time.monotonic() < end:
        tables, decibels = train(x, random_start(bits, random), 8)
        failed = 0
        while failed < 12 and decibels > most - 0.3 and time.monotonic() < end:
            other, others = train(x, changed(tables, random), 4)
            failed = 0 if others > decibels else failed + 1
            if others > decibels:
                tables, decibels = other, others
        if decibels > most:
            best, most = tables, decibels
            print(f"{decibels:.3f} dB, masks {best.masks}", flush=True)
    return best


def rounded(x: Vector, tables: Tables) -> tuple[Tables, float]:
    """Integer tables within the limit of their bits, and the units of a standard deviation that suit them best."""
    largest, best = float(np.abs(tables.levels()).max()), (tables, FACTOR, np.inf)
    for top in np.linspace(0.85, 1.0, 10) * (MAX_LEVEL[tables.bits] + 0.49):
        factor = top / largest
        whole = replace(tables, first=np.rint(factor * tables.first), second=np.rint(factor * tables.second))
        if np.abs(whole.levels()).max() > MAX_LEVEL[tables.bits]:
            continue
        scaled = replace(whole, first=whole.first / factor, second=whole.second / factor)
        error = encode(x, scaled)[1]
        if error < best[2]:
            best = whole, factor, error
    return best[0], best[1]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.trellis_search", description=__doc__.partition("\n")[0])
    parser.add_argument("--bits", type=int, choices=(2, 3, 4, 5), required=True, help="bits a weight")
    parser.add_argument("--seconds", type=float, default=300, help="how long to search (default: 300)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    random = np.random.default_rng(options.seed)
    fresh, unseen = random.standard_normal((192, WIDTH)), random.standard_normal((512, WIDTH))
    tables, _ = train(fresh, search(options.bits, options.seconds, random), 8)
    print(f"real tables: {-10 * np.log10(encode(unseen, tables)[1]):.3f} dB")
    whole, factor = rounded(fresh, tables)
    scaled = replace(whole, first=whole.first / factor, second=whole.second / factor)
    print(f"integer tables: {-10 * np.log10(encode(unseen, scaled)[1]):.3f} dB, factor {factor:.4f}")
    print(f"masks {whole.masks}\nfirst {whole.first.astype(int).tolist()}\nsecond {whole.second.astype(int).tolist()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
