"""Whether statistics belong to a model."""

import hashlib

import numpy as np

from converter.errors import StatisticsError
from converter.statistics.imatrix import Imatrix
from converter.statistics.statistics import Statistics
from gguf_files.source import Source
from gguf_files.tensor_types import INTEGER_TYPES, can_dequantize, eoq_type
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights

_SAMPLED_ROWS = 3


def fingerprint(source: Source) -> str:
    """SHA-256, in hex, of the architecture and of every tensor's name, shape, and first, middle and last row.

    The rows count as float32, and the order of the tensors does not: an F16 model and its F32 copy are the same.
    """
    weights = SourceWeights(source, RowWorkers(1))
    digest = hashlib.sha256(source.architecture.encode())
    for t in sorted(source.tensors, key=lambda t: t.name):
        digest.update(f"\n{t.name} {t.shape}\n".encode())
        if t.weights == 0:
            continue
        for row in sorted({i * (t.rows - 1) // (_SAMPLED_ROWS - 1) for i in range(_SAMPLED_ROWS)}):
            known = t.type not in INTEGER_TYPES and (eoq_type(t.type) is not None or can_dequantize(t.type))
            values = weights.read(t, row, row + 1) if known else source.rows(t, row, row + 1)
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def check_statistics(statistics: Statistics, source: Source) -> Statistics:
    """Refuse statistics of another model, with a StatisticsError.

    Returns those of this model, which for an imatrix are divided as its tensors are.
    """
    if isinstance(statistics, Imatrix):
        statistics = statistics.divided(source.tensors)
    if statistics.fingerprint is not None and statistics.fingerprint != fingerprint(source):
        raise StatisticsError(
            f"{statistics.path} holds statistics of another model: its fingerprint is not that of {source.named}; "
            "calibrate again, or give the file that belongs to this model"
        )
    tensors = {t.name: t for t in source.tensors}
    known = [name for name in statistics.tensor_names if name in tensors]
    if not known:
        raise StatisticsError(
            f"{statistics.path} has statistics of no tensor of {source.named} (of "
            f"{statistics.tensor_names[0] if statistics.tensor_names else 'none at all'}); give those of this model"
        )
    for name in known:
        _check_shape(statistics, tensors[name])
    return statistics


def _check_shape(statistics: Statistics, tensor: TensorInfo) -> None:
    length = statistics.row_length(tensor.name)
    if length != tensor.row_length:
        raise StatisticsError(
            f"{statistics.path} is of another model: its statistics of tensor {tensor.name} are for rows of {length}, "
            f"and the model's are of {tensor.row_length}"
        )
    experts = len(statistics.counts(tensor.name))
    if experts not in (1, tensor.matrices):
        raise StatisticsError(
            f"{statistics.path} is of another model: it has statistics for {experts} experts of tensor {tensor.name}, "
            f"and the model has {tensor.matrices}"
        )
