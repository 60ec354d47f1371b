"""Rows of a tensor on their way into the file: what every way of rounding has in common."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from converter.plan import TensorPlan
from eoq_formats.errors import ScaleOverflowError
from gguf_files.finite import check_finite, finite_values
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Bytes, WeightReader

CHUNK_WEIGHTS = 1 << 22
"""Weights in memory at a time (16 MiB as float32). Fixed: sums must not depend on the machine."""


@dataclass(frozen=True)
class WeightedError:
    """Errors weighted by the second moments M of the tensor's inputs: tr(E M Eᵀ), mean squared error of the outputs.

    All of the same rows, with M as measured (no damping).
    """

    signal: float
    """tr(W M Wᵀ) of the weights W."""
    nearest: float
    """Error of rounding to nearest; for a trellis an estimate from some of the rows."""
    feedback: float
    """Error after the first pass of error feedback; that of rounding to nearest where there was none."""
    final: float
    """Error of the codes that are written."""

    @classmethod
    def none(cls) -> "WeightedError":
        return cls(0.0, 0.0, 0.0, 0.0)

    def __add__(self, other: "WeightedError") -> "WeightedError":
        return WeightedError(
            self.signal + other.signal,
            self.nearest + other.nearest,
            self.feedback + other.feedback,
            self.final + other.final,
        )


@dataclass(frozen=True)
class RoundedRows:
    """Consecutive rows of a tensor as they go into the file."""

    data: Bytes
    """uint8 (rows, row bytes)"""
    signal: float
    """Sum of the squared weights; 0 for rows that were copied."""
    error: float
    """Sum of the squared rounding errors."""
    method: str = "nearest"
    """How the codes were chosen: copy, nearest or feedback."""
    weighted: WeightedError | None = None
    """None where no statistics were used."""
    damping: float = 0.0
    """What was added to the diagonal of the moments, relative to its mean."""
    notes: tuple[str, ...] = ()
    """What the user should hear of, such as a fallback; the same words for each part of a tensor that it is true of."""
    better_to_nearest: int = 0
    """Rows that error feedback made worse, which were rounded to nearest."""

    def without_data(self) -> "RoundedRows":
        """The figures alone."""
        return replace(self, data=np.empty((0, 0), dtype=np.uint8))


class Rounding(Protocol):
    """A way to choose the codes of a tensor."""

    method: str
    """Its name in the file's metadata."""

    def round(self, plan: TensorPlan, weights: WeightReader) -> Iterator[RoundedRows]:
        """The tensor's rows in order. Raises NonFiniteWeightError or ScaleOverflowError, which name tensor and row."""
        ...

    def cost(self, plan: TensorPlan) -> int:
        """About how many nanoseconds it takes for each weight."""
        ...


def copy_rows(tensor: TensorInfo, source: Source) -> Iterator[RoundedRows]:
    """The rows of a tensor as they are. Raises NonFiniteWeightError for a NaN or infinity among floats."""
    for start, stop in row_chunks(tensor):
        stored = source.rows(tensor, start, stop)
        finite = finite_values(stored, tensor.type)
        if finite is not None:
            check_finite(finite, tensor, range(start, stop))
        yield RoundedRows(stored, 0.0, 0.0, "copy")


def row_chunks(tensor: TensorInfo, weights: int | None = None, rows: int | None = None) -> Iterator[tuple[int, int]]:
    """Start and stop of the pieces in which a tensor is worked on; they depend on its shape alone.

    `weights` is how many may be in memory at a time (CHUNK_WEIGHTS), `rows` how many rows there are (all).
    """
    if tensor.weights == 0:
        return  # of a row without weights there may be 2^62
    rows = tensor.rows if rows is None else rows
    step = max(1, (weights or CHUNK_WEIGHTS) // max(1, tensor.row_length))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def too_large(tensor: TensorInfo, row: int, kind: str) -> ScaleOverflowError:
    return ScaleOverflowError(
        f"tensor {tensor.name}, row {row}: the weights are too large for the fp16 scale of {kind}; "
        f"give the tensor another type, such as --tensor-type '{tensor.name}=bf16'"
    )
