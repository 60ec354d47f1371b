"""llama.cpp's importance matrices (llama-imatrix, GGUF form): the mean squares of a tensor's inputs, no more."""

import copy
import re
from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics.sound import check_means
from converter.statistics.statistics import Statistics
from gguf_files.gguf_file import GgufFile
from gguf_files.header import TensorEntry
from gguf_files.tensors import TensorInfo

FILE_TYPE = "imatrix"
"""Value of general.type."""
_SUMS, _COUNTS = ".in_sum2", ".counts"


class Imatrix(Statistics):
    """An imatrix.gguf. It does not tell which model it belongs to, nor which tensors share an input."""

    fingerprint = None
    has_moments = False

    def __init__(self, file: GgufFile) -> None:
        """Raises StatisticsError where the file is damaged or has no statistics."""
        self.path = file.path
        entries = {t.name: t for t in file.header.tensors}
        names = [name.removesuffix(_SUMS) for name in entries if name.endswith(_SUMS)]
        if not names:
            raise StatisticsError(f"{self.path} is an importance matrix without any statistics; make it again")
        self._counts: dict[str, NDArray[np.float64]] = {}
        self._squares: dict[str, NDArray[np.float64]] = {}
        for name in names:
            counts = entries.get(name + _COUNTS)
            if counts is None:
                raise StatisticsError(
                    f"{self.path} is damaged: it has sums of tensor {name}, but no counts; make it again"
                )
            self._add(name, _read(file, entries[name + _SUMS]), _read(file, counts))
        if not self._counts:
            raise StatisticsError(f"{self.path} is an importance matrix that saw no token; make it again")
        self.tokens = int(max(counts.max() for counts in self._counts.values()))
        chunks, size = (file.header.get(f"imatrix.{key}") for key in ("chunk_count", "chunk_size"))
        self.description = f"{self.path.name} of llama-imatrix, {chunks} chunks of {size} tokens"
        self.imatrix = self._for_metadata(file, chunks)

    def _for_metadata(self, file: GgufFile, chunks: object) -> dict[str, str | int]:
        """Without folders, which are of no use to others, and none of their business."""
        found: dict[str, str | int] = {"quantize.imatrix.file": self.path.name}
        datasets = next((entry.texts for entry in file.header.metadata if entry.key == "imatrix.datasets"), ())
        if datasets:
            found["quantize.imatrix.dataset"] = re.split(r"[/\\]", datasets[0])[-1]
        found["quantize.imatrix.entries_count"] = len(self._counts)
        if type(chunks) is int and 0 < chunks < 1 << 32:
            found["quantize.imatrix.chunks_count"] = chunks
        return found

    def _add(self, name: str, sums: NDArray[np.float64], counts: NDArray[np.float64]) -> None:
        counts = counts.reshape(-1)
        sums = sums.reshape(-1, sums.shape[-1])
        if len(counts) != len(sums):
            raise StatisticsError(
                f"{self.path} is damaged: it has {len(counts)} counts for {len(sums)} rows of sums of tensor {name}; "
                "make it again"
            )
        squares = sums / np.maximum(counts, 1)[:, None]
        check_means(self.path, name, counts, squares)
        if counts.any():  # nothing is known of the inputs of a tensor that no token reached
            self._counts[name] = counts
            self._squares[name] = squares

    def divided(self, tensors: Iterable[TensorInfo]) -> Self:
        """The same for a model with such tensors: what is one row of sums becomes a row for each matrix.

        llama-imatrix writes one row and one count for a tensor of several matrices that is no mixture's, such as MLA's
        attn_k_b, and so it does for experts that it read from a file in the old .dat form, whose rows are means over
        each expert's own tokens.
        """
        result = copy.copy(self)
        result._counts, result._squares = dict(self._counts), dict(self._squares)
        for t in tensors:
            squares = self._squares.get(t.name)
            if squares is not None and t.matrices > 1 and squares.shape == (1, t.matrices * t.row_length):
                result._squares[t.name] = squares.reshape(t.matrices, t.row_length)
                result._counts[t.name] = np.repeat(self._counts[t.name], t.matrices)
        return result

    @property
    def tensor_names(self) -> Sequence[str]:
        return tuple(self._counts)

    def __contains__(self, tensor_name: object) -> bool:
        return tensor_name in self._counts

    def input_key(self, tensor_name: str) -> str:
        """The tensor's own name."""
        return tensor_name

    def row_length(self, tensor_name: str) -> int:
        return int(self._squares[tensor_name].shape[1])

    def counts(self, tensor_name: str) -> NDArray[np.float64]:
        return self._counts[tensor_name]

    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        return self._squares[tensor_name]

    def moments(self, tensor_name: str, expert: int = 0) -> None:
        """None: never known."""


def _read(file: GgufFile, entry: TensorEntry) -> NDArray[np.float64]:
    """The numbers of a tensor, row-major, float64."""
    if entry.type != GGMLQuantizationType.F32:
        raise StatisticsError(
            f"{file.path} is damaged: {entry.name} has type {entry.type.name} instead of F32; make it again"
        )
    if 0 in entry.shape:
        raise StatisticsError(f"{file.path} is damaged: {entry.name} of shape {entry.shape} is empty; make it again")
    data = file.read(file.header.data_start + entry.offset, entry.nbytes).view(np.float32)
    return data.reshape(entry.shape[::-1]).astype(np.float64)
