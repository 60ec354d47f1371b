"""Rows of the tensors in a Hugging Face folder, in floats and as they are stored."""

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray

from converter.ingest.safetensors_folder import StoredTensor
from gguf_files.half_floats import widen_bfloat16, widen_float16
from hf_export.errors import ExportError

Floats = NDArray[np.float32]

_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


def rows_of(tensor: StoredTensor) -> int:
    """Rows over all matrices; a vector is one row."""
    return prod(tensor.shape[:-1])


def row_length_of(tensor: StoredTensor) -> int:
    return tensor.shape[-1] if tensor.shape else 1


def read_rows(tensor: StoredTensor, start: int, stop: int) -> Floats:
    """Rows [start, stop) as float32 (rows, row length). Raises ExportError for a type without floats."""
    if tensor.dtype not in _BYTES:
        raise ExportError(
            f"the tensor {tensor.name} of {tensor.file.path} is {tensor.dtype}, and only F32, F16 and BF16 are "
            "exported; give the folder of the original model"
        )
    length = row_length_of(tensor)
    size = length * _BYTES[tensor.dtype]
    data = tensor.file.read(tensor.start + start * size, (stop - start) * size)
    shape = stop - start, length
    if tensor.dtype == "F32":
        return np.frombuffer(data, "<f4").reshape(shape)
    floats = np.empty(shape, dtype=np.float32)
    widen = widen_float16 if tensor.dtype == "F16" else widen_bfloat16
    widen(np.frombuffer(data, "<u2").reshape(shape), floats)
    return floats


def read_bytes(tensor: StoredTensor) -> bytes:
    return tensor.file.read(tensor.start, tensor.nbytes).tobytes()


def as_stored(floats: Floats, dtype: str) -> tuple[str, bytes]:
    """Floats in a type that has them all: `dtype` if it does, else F32. Returns the type and the bytes."""
    if dtype == "F16":
        with np.errstate(over="ignore"):
            halves = floats.astype("<f2")
        if np.array_equal(halves.astype(np.float32), floats):
            return "F16", halves.tobytes()
    bits = np.ascontiguousarray(floats, dtype="<f4").view(np.uint32)
    if dtype == "BF16" and not (bits & 0xFFFF).any():
        return "BF16", (bits >> 16).astype("<u2").tobytes()
    return "F32", bits.tobytes()


def as_rounded(floats: Floats, dtype: str) -> tuple[str, bytes]:
    """Floats rounded to nearest to `dtype`, F32, F16 or BF16; F32 where F16 has none so large. As `as_stored`."""
    values = torch.from_numpy(np.ascontiguousarray(floats, dtype=np.float32))
    if dtype == "BF16":
        return dtype, values.bfloat16().view(torch.int16).numpy().tobytes()
    halves = values.half()
    if dtype == "F16" and bool(halves.isfinite().all()):
        return dtype, halves.numpy().tobytes()
    return "F32", values.numpy().tobytes()
