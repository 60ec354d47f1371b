"""Weights that are not numbers: found, and refused by the name of their tensor."""

from collections.abc import Sequence

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from eoq_formats.errors import NonFiniteWeightError
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo

_PIECE = 1 << 22
"""Weights that are looked at together."""


def finite_values(stored: NDArray[np.uint8], kind: GGMLQuantizationType) -> NDArray[np.bool_] | None:
    """Which of the stored floats, uint8 (rows, row bytes), are finite; None for types that are not plain floats."""
    if kind == GGMLQuantizationType.BF16:
        finite: NDArray[np.bool_] = (stored.view(np.uint16) & np.uint16(0x7F80)) != 0x7F80
        return finite
    plain = {
        GGMLQuantizationType.F64: np.float64,
        GGMLQuantizationType.F32: np.float32,
        GGMLQuantizationType.F16: np.float16,
    }
    return np.isfinite(stored.view(plain[kind])) if kind in plain else None


def check_finite(finite: NDArray[np.bool_], tensor: TensorInfo, numbers: Sequence[int]) -> None:
    """Raises NonFiniteWeightError for the first of the rows bool (rows, row length) that is not all true.

    `numbers` are those of the rows in the tensor.
    """
    rows = finite.all(axis=1)
    if not rows.all():
        raise non_finite(tensor, numbers[int(np.flatnonzero(~rows)[0])])


def check_weights_finite(source: Source) -> None:
    """Raises NonFiniteWeightError for the first tensor of plain floats with a NaN or an infinity."""
    for tensor in source.tensors:
        step = max(1, _PIECE // max(1, tensor.row_length))
        for start in range(0, tensor.rows if tensor.weights else 0, step):
            stop = min(start + step, tensor.rows)
            finite = finite_values(source.rows(tensor, start, stop), tensor.type)
            if finite is None:
                break
            check_finite(finite, tensor, range(start, stop))


def non_finite(tensor: TensorInfo, row: int) -> NonFiniteWeightError:
    """The error for a row of a tensor."""
    return NonFiniteWeightError(f"tensor {tensor.name} has a NaN or an infinity in row {row}; the model is damaged")
