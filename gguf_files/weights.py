"""Rows of a tensor as float32, whatever type the model stores them in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from eoq_formats import kernels
from gguf_files.half_floats import widen_bfloat16, widen_float16
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]

_ROWS_WORTH_A_TASK = 16


class RowWorkers:
    """Does NumPy work on pieces of the rows at once. Rows are independent, so the pieces make no difference."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, rows: int, work: Callable[[int, int], None]) -> None:
        """Call `work(start, stop)` for pieces that make up all rows."""
        pieces = min(self.threads, -(-rows // _ROWS_WORTH_A_TASK))
        if self._pool is None or pieces < 2:
            work(0, rows)
            return
        edges = [rows * i // pieces for i in range(pieces + 1)]
        for done in [self._pool.submit(work, *edge) for edge in pairwise(edges)]:
            done.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown()


class WeightReader(Protocol):
    """Where rounding gets its weights: the source, or a stage that changes them on their way."""

    def read(self, tensor: TensorInfo, start: int, stop: int) -> Floats:
        """Rows [start, stop) as float32 (rows, row length), valid until the next call."""
        ...


class SourceWeights:
    """The weights as they are in the model."""

    def __init__(self, source: Source, workers: RowWorkers) -> None:
        self.source = source
        self.workers = workers
        self._buffer: Floats = np.empty(0, dtype=np.float32)

    def read(self, tensor: TensorInfo, start: int, stop: int) -> Floats:
        """Rows [start, stop) as float32 (rows, row length), valid until the next call."""
        stored = self.source.rows(tensor, start, stop)
        eoq = eoq_type(tensor.type)
        if eoq is not None:
            return kernels.dequantize(stored, eoq)
        size = (stop - start) * tensor.row_length
        if self._buffer.size < size:
            self._buffer = np.empty(size, dtype=np.float32)
        floats = self._buffer[:size].reshape(stop - start, tensor.row_length)
        if tensor.type == GGMLQuantizationType.F16:
            widen_float16(stored.view(np.uint16), floats)
        elif tensor.type == GGMLQuantizationType.BF16:
            widen_bfloat16(stored.view(np.uint16), floats)
        else:
            self.workers.run(stop - start, lambda a, b: _to_floats(stored[a:b], tensor.type, floats[a:b]))
        return floats


def _to_floats(stored: Bytes, kind: GGMLQuantizationType, out: Floats) -> None:
    """Turn stored rows uint8 (rows, row bytes) into `out`, float32 (rows, row length)."""
    if kind == GGMLQuantizationType.F32:
        out[...] = stored.view(np.float32)
    elif kind == GGMLQuantizationType.F64:
        with np.errstate(over="ignore"):  # rounding reports what overflows
            out[...] = stored.view(np.float64)
    else:
        out[...] = dequantize(stored, kind)
