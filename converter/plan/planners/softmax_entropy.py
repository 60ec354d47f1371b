"""Entropy of the softmax of all weights of a matrix (EWQ, sections 3.1.1 to 3.1.3 of the paper)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import exp, fsum, isfinite, log
from typing import TypeVar

import numpy as np

from gguf_files.errors import SourceError
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats, RowWorkers, SourceWeights

EPSILON = 0.01
"""Added to each probability inside the logarithm, as in the paper."""
_PIECE_WEIGHTS = 1 << 20

Result = TypeVar("Result")

Pieces = Callable[[], Iterable[Floats]]
"""Gives the weights of a matrix anew at each call, in pieces of any shape."""


def softmax_entropy(pieces: Pieces, epsilon: float = EPSILON, threads: int = 1) -> float:
    """-Σ p log(p + epsilon) in nats, with p = softmax of all weights of the matrix together.

    Float64 throughout, in two passes: the softmax's denominator, then the sum. Pieces are summed
    one by one and then exactly, so that the number of threads changes nothing. NaN where a weight is not finite.
    """
    with ThreadPoolExecutor(threads) as pool:
        parts = list(_mapped(pool, threads, _largest_and_sum, pieces()))
        if not parts:
            raise ValueError("a matrix without weights has no entropy")
        if not all(isfinite(part) for part, _ in parts):
            return float("nan")
        largest = max(part for part, _ in parts)
        # kept apart: added to a large weight, the logarithm would be lost
        log_sum = log(fsum(exp(part - largest) * total for part, total in parts))
        return fsum(_mapped(pool, threads, partial(_entropy, largest, log_sum, epsilon), pieces()))


def _mapped(
    pool: ThreadPoolExecutor, threads: int, function: Callable[[Floats], Result], pieces: Iterable[Floats]
) -> Iterator[Result]:
    """The function of each piece, in order, with no more pieces in memory than there are threads."""
    batch = []
    for piece in pieces:
        batch.append(pool.submit(function, piece))
        if len(batch) == threads:
            yield from (done.result() for done in batch)
            batch.clear()
    yield from (done.result() for done in batch)


def _largest_and_sum(piece: Floats) -> tuple[float, float]:
    """The largest weight, and the sum of all exponentials relative to it."""
    values = piece.astype(np.float64).ravel()
    largest = float(values.max())
    if not isfinite(largest):
        return float("nan"), 0.0
    values -= largest
    return largest, float(np.exp(values, out=values).sum())


def _entropy(largest: float, log_sum: float, epsilon: float, piece: Floats) -> float:
    p = piece.astype(np.float64).ravel()
    p -= largest
    p -= log_sum
    np.exp(p, out=p)
    return -float((p * np.log(p + epsilon)).sum())


def matrix_entropy(source: Source, tensor: TensorInfo, epsilon: float = EPSILON, threads: int = 1) -> float:
    """Entropy of a tensor; matrices of experts that are stored together count as one. Raises SourceError."""
    with RowWorkers(1) as workers:
        weights = SourceWeights(source, workers)

        def pieces() -> Iterator[Floats]:
            rows = max(1, _PIECE_WEIGHTS // tensor.row_length)
            for start in range(0, tensor.rows, rows):
                # the next read would write over it
                yield weights.read(tensor, start, min(start + rows, tensor.rows)).copy()

        entropy = softmax_entropy(pieces, epsilon, threads)
    if not isfinite(entropy):
        raise SourceError(f"tensor {tensor.name} has no entropy: some of its weights are infinite or not a number")
    return entropy


def weighted_mean(values: Sequence[float], weights: Sequence[int]) -> float:
    """Mean of matrices' entropies by their numbers of weights: the block's entropy (section 3.2)."""
    return fsum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)
