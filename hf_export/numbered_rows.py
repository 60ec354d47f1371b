"""Where llama.cpp's converter puts the rows of a folder: each is given values that name it, and is found by them.

The converter renames tensors, permutes the rows of queries and keys, and joins matrices, of experts and others,
whatever the weights are. So in place of weights it is given rows that begin with their own number, and go on as no
other row does. A row that the GGUF has as it was tells where it is from. What became of a row in any other way, such as
a transposed one, is not found, and that is an error. Nothing is taken from names, or guessed from values that happen to
be equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.rounding import row_chunks
from eoq_formats.types import WeightType
from gguf_files.source import Source
from gguf_files.tensor_types import FLOAT_TYPES
from gguf_files.tensors import TensorInfo
from gguf_files.weights import SourceWeights
from hf_export.coded_folder import CodedLayer
from hf_export.errors import ExportError
from terminal.progress import Progress

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]

_BASE = 128
"""All values are whole numbers from 1 to this, which F16 and BF16 have."""
_LAYER_DIGITS, _ROW_DIGITS = 3, 5
_DIGITS = _LAYER_DIGITS + _ROW_DIGITS
_PLACES = _BASE ** np.arange(_DIGITS, dtype=np.int64)
_STARTS = 65521
"""A prime. So many rows one after the other go on differently, so that no exchange of columns stays unseen."""


class RowNumbers:
    """Values float32 that stand for the rows of some layers."""

    def __init__(self, layers: Sequence[CodedLayer]) -> None:
        self._layers = layers
        longest = max(layer.row_length for layer in layers)
        table = np.random.default_rng(0).integers(1, _BASE + 1, _STARTS + longest)
        self._table: Floats = table.astype(np.float32)

    def values(self, layer: int, rows: Numbers) -> Floats:
        """What stands in these rows of a layer, given by its place in the list: float32 (rows, row length)."""
        length = self._layers[layer].row_length
        made = np.empty((len(rows), length), dtype=np.float32)
        number = rows * _BASE**_LAYER_DIGITS + layer
        made[:, :_DIGITS] = number[:, None] // _PLACES % _BASE + 1
        tails = np.lib.stride_tricks.sliding_window_view(self._table, length - _DIGITS)
        made[:, _DIGITS:] = tails[(rows + 7919 * layer) % _STARTS]
        return made

    def read(self, values: Floats) -> tuple[Numbers, Numbers] | None:
        """Layer and row of each of these rows (rows, row length); None where one of them is not as it was made."""
        head = values[:, :_DIGITS]
        if head.shape[1] < _DIGITS or not ((head >= 1) & (head <= _BASE) & (head == np.floor(head))).all():
            return None
        number = (head.astype(np.int64) - 1) @ _PLACES
        layers, rows = number % _BASE**_LAYER_DIGITS, number // _BASE**_LAYER_DIGITS
        for layer in np.unique(layers):
            own = layers == layer
            if layer >= len(self._layers) or self._layers[layer].row_length != values.shape[1]:
                return None
            if not np.array_equal(self.values(int(layer), rows[own]), values[own]):
                return None
        return layers, rows


@dataclass(frozen=True)
class FoundRows:
    """A tensor of the GGUF whose rows are those of layers."""

    tensor: TensorInfo
    type: WeightType
    """Of their codes."""
    layers: Numbers
    """Of each row, the place of its layer in the list."""
    rows: Numbers
    """And which of its rows it is."""

    def codes(self, layers: Sequence[CodedLayer], start: int, stop: int) -> NDArray[np.uint8]:
        """Rows [start, stop) in codes, uint8 (rows, row bytes). Raises as CodedLayer.read."""
        made: NDArray[np.uint8] | None = None
        for layer in np.unique(self.layers[start:stop]):
            own = self.layers[start:stop] == layer
            rows = self.rows[start:stop][own]
            first = int(rows.min())
            # permutations stay within a head, so there is little between that is not wanted
            read = layers[layer].read(first, int(rows.max()) + 1)[rows - first]
            if made is None:
                made = np.empty((stop - start, read.shape[1]), dtype=np.uint8)
            made[own] = read
        assert made is not None, "there are no empty pieces"
        return made


def find_rows(
    layers: Sequence[CodedLayer], numbers: RowNumbers, source: Source, read: SourceWeights, progress: Progress
) -> dict[str, FoundRows]:
    """The tensors of a GGUF that are made of numbered rows, by name. Raises ExportError where a row is not in it."""
    progress.stage("finding the rows", sum(t.weights for t in source.tensors))
    found = {}
    for tensor in source.tensors:
        if (rows := _find(layers, numbers, tensor, read)) is not None:
            found[tensor.name] = rows
        progress.advance(tensor.weights)
    seen = [np.zeros(layer.rows, dtype=bool) for layer in layers]
    for one in found.values():
        for layer in np.unique(one.layers):
            seen[layer][one.rows[one.layers == layer]] = True
    for layer, rows_seen in zip(layers, seen, strict=True):
        if not rows_seen.all():
            raise ExportError(
                f"the GGUF that llama.cpp's converter makes of the folder has not all rows of {layer.name} as they "
                "are, so their codes have no place in it; convert the original model"
            )
    return found


def _find(
    layers: Sequence[CodedLayer], numbers: RowNumbers, tensor: TensorInfo, read: SourceWeights
) -> FoundRows | None:
    if tensor.type not in FLOAT_TYPES or not tensor.weights or numbers.read(read.read(tensor, 0, 1)) is None:
        return None
    pieces = []
    for start, stop in row_chunks(tensor):
        piece = numbers.read(read.read(tensor, start, stop))
        if piece is None:
            raise ExportError(
                f"llama.cpp's converter joins rows that are in codes with others to {tensor.name}, which has one type; "
                "convert the original model"
            )
        pieces.append(piece)
    found = [np.concatenate(parts) for parts in zip(*pieces, strict=True)]
    types = {layers[layer].type: layers[layer].name for layer in np.unique(found[0])}
    if len(types) > 1:
        (first, name), (second, other) = list(types.items())[:2]
        raise ExportError(
            f"{name} and {other} become one tensor of the GGUF, {tensor.name}, and their codes are of two types, "
            f"{first.name.lower()} and {second.name.lower()}; convert the original model"
        )
    return FoundRows(tensor, next(iter(types)), found[0], found[1])
