"""Which tensor of a Hugging Face folder became which part of a GGUF, and how: found by name, proved by the values.

llama.cpp's converter renames tensors, puts the matrices of experts into one, permutes the rows of queries and keys of
the llama family, and adds 1 to some norms. gguf-py has the names; what else was done to a tensor is the one of these
under which all its values agree.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import gguf
import numpy as np
from numpy.typing import NDArray

from converter.ingest.safetensors_folder import StoredTensor
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import SourceWeights
from hf_export.errors import ExportError
from hf_export.stored_rows import read_rows, row_length_of, rows_of
from terminal.progress import Progress

Order = NDArray[np.intp]

_EXPERT = re.compile(r"\.experts\.(\d+)\.")
_SUFFIXES = (".weight", ".bias")
_WRAPPERS = ("language_model.", "model.language_model.", "text_model.")
_ROUNDING = 2.0**-8
"""Of the value: llama.cpp's converter rounds a tensor to the type of the others where that is a half."""
_SMALLEST = 2.0**-24
_CHUNK = 1 << 22
"""Weights compared at a time."""


@dataclass(frozen=True)
class Placed:
    """A tensor of the folder and its part of the GGUF."""

    stored: StoredTensor
    tensor: TensorInfo
    first: int
    """The row of the GGUF's tensor that its own begin at."""
    order: Order | None
    """The row of the folder that each of the GGUF's is; None where they are the same."""
    added: float
    """What the GGUF has more in every value."""

    @property
    def rows(self) -> int:
        """Of the GGUF's tensor. Vectors are one row."""
        return rows_of(self.stored)

    def to_folder(self, rows: NDArray[np.generic]) -> NDArray[np.generic]:
        """Rows of the GGUF (rows, …), or of a vector its values (1, n), in the order of the folder."""
        if self.order is None:
            return rows
        ordered = np.empty_like(rows)
        if len(self.stored.shape) == 1:
            ordered[0, self.order] = rows[0]
        else:
            ordered[self.order] = rows
        return ordered


def place_tensors(
    stored: Sequence[StoredTensor], source: Source, read: SourceWeights, progress: Progress
) -> list[Placed]:
    """All tensors of a folder that its GGUF, `source`, has. Raises ExportError for what cannot be traced back."""
    found = _by_name(stored, source)
    progress.stage("comparing the folder with its GGUF", sum(t.weights for t, _, _ in found))
    placed = []
    for t, tensor, first in found:
        placed.append(_place(t, tensor, first, source, read))
        progress.advance(t.weights)
    return placed


def check_complete(placed: Iterable[Placed], tensors: Iterable[TensorInfo]) -> None:
    """Whether these tensors of the GGUF are all made of the folder's. Raises ExportError."""
    rows: dict[str, int] = {}
    for one in placed:
        rows[one.tensor.name] = rows.get(one.tensor.name, 0) + one.rows
    for tensor in tensors:
        if rows.get(tensor.name, 0) != tensor.rows:
            raise ExportError(
                f"the folder has no tensor that {tensor.name} of the GGUF was made of as it is, so its codes have no "
                "place there; leave it in another type (--tensor-type of eoq convert, then --from)"
            )


def _by_name(stored: Sequence[StoredTensor], source: Source) -> list[tuple[StoredTensor, TensorInfo, int]]:
    architecture = next((key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == source.architecture), None)
    blocks = source.number("{arch}.block_count")
    if architecture is None or blocks is None:
        raise ExportError(f"gguf-py knows no names of tensors of the architecture {source.architecture}")
    names = gguf.get_tensor_name_map(architecture, blocks)
    tensors = {t.name: t for t in source.tensors}
    found = []
    for t in stored:
        expert = _EXPERT.search(t.name)
        plain = _EXPERT.sub(".experts.", t.name, count=1) if expert else t.name
        tensor = next(iter(_named(plain, names, tensors)), None)
        if tensor is None or tensor.row_length != row_length_of(t):
            continue
        first = int(expert[1]) * rows_of(t) if expert and tensor.matrices > 1 else 0
        if first + rows_of(t) <= tensor.rows:
            found.append((t, tensor, first))
    return found


def _named(name: str, names: gguf.TensorNameMap, tensors: Mapping[str, TensorInfo]) -> Iterator[TensorInfo]:
    for candidate in (name, *(name.removeprefix(w) for w in _WRAPPERS), *(name.replace(w, "", 1) for w in _WRAPPERS)):
        tensor = tensors.get(names.get_name(candidate, try_suffixes=_SUFFIXES) or "")
        if tensor is not None:
            yield tensor


def _place(t: StoredTensor, tensor: TensorInfo, first: int, source: Source, read: SourceWeights) -> Placed:
    for order, added in _ways(t, source):
        placed = Placed(t, tensor, first, order, added)
        if _agrees(placed, read):
            return placed
    raise ExportError(
        f"{t.name} of the folder and {tensor.name} of its GGUF have different values, and no way is known to turn one "
        "into the other; such a model is not exported"
    )


def _ways(t: StoredTensor, source: Source) -> Iterator[tuple[Order | None, float]]:
    yield None, 0.0
    if len(t.shape) == 1:
        yield None, 1.0
    rows = t.shape[0]
    for key in ("head_count", "head_count_kv"):
        heads = source.number(f"{{arch}}.attention.{key}")
        if heads and rows % (2 * heads) == 0:
            halves = np.arange(rows).reshape(heads, 2, rows // heads // 2)
            yield halves.swapaxes(1, 2).reshape(-1), 0.0


def _agrees(placed: Placed, read: SourceWeights) -> bool:
    t, length = placed.stored, row_length_of(placed.stored)
    everything = None if placed.order is None else read_rows(t, 0, placed.rows)
    step = max(1, _CHUNK // length)
    for start in range(0, placed.rows, step):
        stop = min(start + step, placed.rows)
        if everything is None:
            theirs = read_rows(t, start, stop)
        elif len(t.shape) == 1:
            theirs = everything[:, placed.order]
        else:
            assert placed.order is not None
            theirs = everything[placed.order[start:stop]]
        ours = read.read(placed.tensor, placed.first + start, placed.first + stop)
        wanted = theirs + np.float32(placed.added) if placed.added else theirs
        # most are equal, and that is told ten times as fast
        if not np.array_equal(ours, wanted) and not np.allclose(ours, wanted, rtol=_ROUNDING, atol=_SMALLEST):
            return False
    return True
