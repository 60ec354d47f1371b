"""Rounding to nearest, in chunks of rows."""

from collections.abc import Iterator, Sequence

import numpy as np
from gguf.quants import dequantize, quantize

from converter.plan import TensorPlan
from converter.rounding.cost import nearest_cost
from converter.rounding.rounded_rows import RoundedRows, row_chunks, too_large
from eoq_formats import kernels
from eoq_formats.types import WeightType
from gguf_files.finite import check_finite, non_finite
from gguf_files.tensor_types import eoq_type, row_bytes, type_name
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats, RowWorkers, WeightReader


class RoundToNearest:
    """Each weight by itself to the nearest value that its type has."""

    method = "rtn"

    def __init__(self, workers: RowWorkers) -> None:
        self.workers = workers
        kernels.set_threads(workers.threads)

    def round(self, plan: TensorPlan, weights: WeightReader) -> Iterator[RoundedRows]:
        for start, stop in row_chunks(plan.tensor):
            yield self.round_rows(plan, weights.read(plan.tensor, start, stop), range(start, stop))

    def cost(self, plan: TensorPlan) -> int:
        return nearest_cost(plan)

    def round_rows(self, plan: TensorPlan, rows: Floats, numbers: Sequence[int]) -> RoundedRows:
        """Rows float32 (k, row length) that have these numbers in the tensor, which errors name."""
        eoq = eoq_type(plan.type)
        if eoq is not None:
            return _round_to_eoq(rows, eoq, plan.tensor, numbers)
        return self._round_to_ordinary(rows, plan, numbers)

    def trial(self, rows: Floats, t: WeightType) -> Floats:
        """What rows float32 (k, n) become, for comparing ways to scale them."""
        return kernels.dequantize(kernels.quantize(rows, t).data, t)

    def _round_to_ordinary(self, rows: Floats, plan: TensorPlan, numbers: Sequence[int]) -> RoundedRows:
        check_finite(np.isfinite(rows), plan.tensor, numbers)
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
            row = numbers[int(np.flatnonzero(~np.isfinite(error))[0])]
            raise too_large(plan.tensor, row, type_name(plan.type))
        return RoundedRows(data, float(signal.sum()), float(error.sum()))


def _round_to_eoq(rows: Floats, t: WeightType, tensor: TensorInfo, numbers: Sequence[int]) -> RoundedRows:
    packed = kernels.quantize(rows, t)
    bad = np.flatnonzero(packed.status)
    if bad.size:
        row, status = numbers[int(bad[0])], packed.status[bad[0]]
        if status == kernels.STATUS_NON_FINITE:
            raise non_finite(tensor, row)
        raise too_large(tensor, row, t.name.lower())
    return RoundedRows(packed.data, float(packed.signal.sum()), float(packed.error.sum()))
