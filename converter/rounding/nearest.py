"""From weights to the bytes of a tensor: rounding to nearest, in chunks of rows."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from converter.plan import TensorPlan
from converter.source import Source
from converter.tensor_types import eoq_type, row_bytes, type_name
from converter.tensors import TensorInfo
from converter.weights import Bytes, Floats, RowWorkers, WeightReader
from eoq_formats import kernels
from eoq_formats.errors import NonFiniteWeightError, ScaleOverflowError
from eoq_formats.types import WeightType

CHUNK_WEIGHTS = 1 << 22
"""Weights in memory at a time (16 MiB as float32). Fixed: sums must not depend on the machine."""


@dataclass(frozen=True)
class RoundedRows:
    """Consecutive rows of a tensor as they go into the file."""

    data: Bytes
    """uint8 (rows, row bytes)"""
    signal: float
    """Sum of the squared weights; 0 for rows that were copied."""
    error: float
    """Sum of the squared rounding errors."""


class Rounding(Protocol):
    """A way to choose the codes of a tensor."""

    method: str
    """Its name in the file's metadata."""

    def round(self, plan: TensorPlan, weights: WeightReader) -> Iterator[RoundedRows]:
        """The tensor's rows in order. Raises NonFiniteWeightError or ScaleOverflowError, which name tensor and row."""
        ...


class RoundToNearest:
    """Each weight by itself to the nearest value that its type has."""

    method = "rtn"

    def __init__(self, workers: RowWorkers) -> None:
        self.workers = workers
        kernels.set_threads(workers.threads)

    def round(self, plan: TensorPlan, weights: WeightReader) -> Iterator[RoundedRows]:
        eoq = eoq_type(plan.type)
        for start, stop in row_chunks(plan.tensor):
            rows = weights.read(plan.tensor, start, stop)
            if eoq is not None:
                yield _round_to_eoq(rows, eoq, plan.tensor, start)
            else:
                yield self._round_to_ordinary(rows, plan, start)

    def _round_to_ordinary(self, rows: Floats, plan: TensorPlan, first_row: int) -> RoundedRows:
        _check_finite(np.isfinite(rows), plan.tensor, first_row)
        data = np.empty((len(rows), row_bytes(plan.type, plan.tensor.row_length)), dtype=np.uint8)
        signal, error = np.empty(len(rows)), np.empty(len(rows))

        def work(start: int, stop: int) -> None:
            part = rows[start:stop]
            with np.errstate(all="ignore"):  # what overflows shows in the error
                packed = np.ascontiguousarray(quantize(part, plan.type)).view(np.uint8)
                difference = dequantize(packed, plan.type) - part
                data[start:stop] = packed
                np.einsum("ij,ij->i", part, part, out=signal[start:stop], dtype=np.float64)
                np.einsum("ij,ij->i", difference, difference, out=error[start:stop], dtype=np.float64)

        self.workers.run(len(rows), work)
        if not np.isfinite(error).all():
            row = first_row + int(np.flatnonzero(~np.isfinite(error))[0])
            raise ScaleOverflowError(
                f"tensor {plan.tensor.name}, row {row}: a weight is too large for {type_name(plan.type)}; "
                f"give the tensor another type, such as --tensor-type '{plan.tensor.name}=bf16'"
            )
        return RoundedRows(data, float(signal.sum()), float(error.sum()))


def _round_to_eoq(rows: Floats, t: WeightType, tensor: TensorInfo, first_row: int) -> RoundedRows:
    packed = kernels.quantize(rows, t)
    bad = np.flatnonzero(packed.status)
    if bad.size:
        row, status = first_row + int(bad[0]), packed.status[bad[0]]
        if status == kernels.STATUS_NON_FINITE:
            raise _non_finite(tensor, row)
        raise ScaleOverflowError(
            f"tensor {tensor.name}, row {row}: the weights are too large for the fp16 scale of {t.name.lower()}; "
            f"give the tensor another type, such as --tensor-type '{tensor.name}=bf16'"
        )
    return RoundedRows(packed.data, float(packed.signal.sum()), float(packed.error.sum()))


def copy_rows(tensor: TensorInfo, source: Source) -> Iterator[RoundedRows]:
    """The rows of a tensor as they are. Raises NonFiniteWeightError for a NaN or infinity among floats."""
    for start, stop in row_chunks(tensor):
        stored = source.rows(tensor, start, stop)
        finite = _finite(stored, tensor.type)
        if finite is not None:
            _check_finite(finite, tensor, start)
        yield RoundedRows(stored, 0.0, 0.0)
        source.release(tensor, start, stop)


def row_chunks(tensor: TensorInfo) -> Iterator[tuple[int, int]]:
    """Start and stop of the pieces in which a tensor is worked on; they depend on its shape alone."""
    step = max(1, CHUNK_WEIGHTS // max(1, tensor.row_length))
    for start in range(0, tensor.rows, step):
        yield start, min(start + step, tensor.rows)


def _finite(stored: Bytes, kind: GGMLQuantizationType) -> NDArray[np.bool_] | None:
    """Which of the stored floats are finite; None for types that are not plain floats."""
    if kind == GGMLQuantizationType.BF16:
        finite: NDArray[np.bool_] = (stored.view(np.uint16) & np.uint16(0x7F80)) != 0x7F80
        return finite
    plain = {
        GGMLQuantizationType.F64: np.float64,
        GGMLQuantizationType.F32: np.float32,
        GGMLQuantizationType.F16: np.float16,
    }
    return np.isfinite(stored.view(plain[kind])) if kind in plain else None


def _check_finite(finite: NDArray[np.bool_], tensor: TensorInfo, first_row: int) -> None:
    rows = finite.all(axis=1)
    if not rows.all():
        raise _non_finite(tensor, first_row + int(np.flatnonzero(~rows)[0]))


def _non_finite(tensor: TensorInfo, row: int) -> NonFiniteWeightError:
    return NonFiniteWeightError(f"tensor {tensor.name} has a NaN or an infinity in row {row}; the model is damaged")
