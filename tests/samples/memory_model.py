"""Weights and statistics of made-up models, in memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter.statistics import Statistics
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats


class MemoryWeights:
    """A WeightReader over arrays, whose last axis is the row."""

    def __init__(self, tensors: Mapping[str, Floats]) -> None:
        self.tensors = dict(tensors)

    @property
    def infos(self) -> list[TensorInfo]:
        """All tensors, in the order in which they were given."""
        return [self.info(name) for name in self.tensors]

    def info(self, name: str, kind: GGMLQuantizationType = GGMLQuantizationType.F32) -> TensorInfo:
        return TensorInfo(name, tuple(reversed(self.tensors[name].shape)), kind)

    def read(self, tensor: TensorInfo, start: int, stop: int) -> Floats:
        """Rows [start, stop) as float32 (rows, row length), a copy."""
        return self.tensors[tensor.name].reshape(-1, tensor.row_length)[start:stop].astype(np.float32)


class MemoryStatistics(Statistics):
    """Moments of inputs given outright: (tokens, n) for a tensor, or a list of them with one for each expert."""

    def __init__(
        self,
        inputs: Mapping[str, NDArray[np.float64] | Sequence[NDArray[np.float64]]],
        diagonal_only: bool = False,
        keys: Mapping[str, str] | None = None,
    ) -> None:
        """`keys` gives tensors that share an input the same key; by default each has its own."""
        self.inputs: dict[str, list[NDArray[np.float64]]] = {
            name: list(x) if isinstance(x, list | tuple) else [np.asarray(x)] for name, x in inputs.items()
        }
        self.diagonal_only = diagonal_only
        self.has_moments = not diagonal_only
        self.keys = dict(keys or {})
        self.path = Path("memory")
        self.fingerprint = None
        self.tokens = max(len(x) for experts in self.inputs.values() for x in experts)
        self.description = "made up"

    @property
    def tensor_names(self) -> Sequence[str]:
        return list(self.inputs)

    def input_key(self, tensor_name: str) -> str:
        return self.keys.get(tensor_name, tensor_name)

    def row_length(self, tensor_name: str) -> int:
        return int(self.inputs[tensor_name][0].shape[1])

    def counts(self, tensor_name: str) -> NDArray[np.float64]:
        return np.array([len(x) for x in self.inputs[tensor_name]], dtype=np.float64)

    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        return np.stack([np.square(x).sum(0) / max(1, len(x)) for x in self.inputs[tensor_name]])

    def moments(self, tensor_name: str, expert: int = 0) -> Floats | None:
        if self.diagonal_only:
            return None
        x = self.inputs[tensor_name][expert]
        moments: Floats = (x.T @ x / max(1, len(x))).astype(np.float32)
        return moments
