"""Statistics files of our own: a GGUF container with the packed moments of every input."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics.sound import MOST_EXPERTS, MOST_TOKENS, check_means, check_moments
from converter.statistics.statistics import Statistics
from converter.statistics.triangle import Floats, packed_length, unpack
from gguf_files.gguf_file import GgufFile
from gguf_files.header import TensorEntry, pack_entry
from gguf_files.output import GgufOutput
from gguf_files.tensors import TensorInfo
from input_files.structured import parse_json
from output_files.target import check_space

FILE_TYPE = "eoq-statistics"
"""Value of general.type."""
VERSION = 2
_KEY = "eoq.statistics."
_ALIGNMENT = 32


@dataclass(frozen=True)
class InputLayout:
    """One input of the model and the tensors that it feeds."""

    key: str
    row_length: int
    experts: int
    """Experts of the tensors that it feeds; 1 for ordinary tensors."""
    shared: bool
    """Whether all experts are given the same input, so that one set of moments serves them all."""
    tensors: tuple[str, ...]

    @property
    def sets(self) -> int:
        """Moments that are stored."""
        return 1 if self.shared else self.experts

    def stored(self) -> tuple[TensorInfo, TensorInfo, TensorInfo]:
        """Moments, diagonal and counts as they lie in a file."""
        f32, f64 = GGMLQuantizationType.F32, GGMLQuantizationType.F64
        return (
            TensorInfo(f"{self.key}.moments", (packed_length(self.row_length), self.sets), f32),
            TensorInfo(f"{self.key}.diagonal", (self.row_length, self.sets), f32),
            TensorInfo(f"{self.key}.counts", (self.sets,), f64),
        )

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in self.stored())


@dataclass(frozen=True)
class StatisticsHead:
    """All that a file tells before the moments."""

    fingerprint: str
    """Empty where llama-moments was run by hand, without one."""
    tokens: int
    description: str
    notes: tuple[str, ...]
    inputs: tuple[InputLayout, ...]


class StatisticsWriter:
    """A statistics file in the making, as a context: leaving it without `commit` leaves nothing behind.

    Inputs are written in the order of `head.inputs`. Raises TargetError.
    """

    def __init__(self, target: Path, head: StatisticsHead) -> None:
        layout = [
            {
                "key": i.key,
                "row_length": i.row_length,
                "experts": i.experts,
                "shared": i.shared,
                "tensors": list(i.tensors),
            }
            for i in head.inputs
        ]
        text, number = GGUFValueType.STRING, GGUFValueType.UINT64
        metadata = [
            pack_entry("general.type", text, FILE_TYPE),
            pack_entry(_KEY + "version", number, VERSION),
            pack_entry(_KEY + "fingerprint", text, head.fingerprint),
            pack_entry(_KEY + "tokens", number, head.tokens),
            pack_entry(_KEY + "description", text, head.description),
            pack_entry(_KEY + "notes", text, json.dumps(head.notes)),
            pack_entry(_KEY + "inputs", text, json.dumps(layout)),
        ]
        self._output = GgufOutput(target, metadata, [t for i in head.inputs for t in i.stored()], _ALIGNMENT)
        check_space((target.parent, self._output.size, f"the statistics file {target.name}"))

    def __enter__(self) -> Self:
        self._output.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._output.__exit__(kind, error, trace)

    def write(self, pieces: Iterable[Floats], diagonal: NDArray[np.floating], counts: NDArray[np.floating]) -> None:
        """Write the next input.

        `pieces`: packed means of x xᵀ, set after set; `diagonal`: (sets, n); `counts`: (sets,).
        """
        self._output.write_tensor(piece.view(np.uint8) for piece in pieces)
        self._output.write_tensor([np.ascontiguousarray(diagonal, dtype=np.float32).view(np.uint8)])
        self._output.write_tensor([np.ascontiguousarray(counts, dtype=np.float64).view(np.uint8)])

    def commit(self) -> None:
        """Check what was written and give the file its name."""
        self._output.commit()


class MomentsFile(Statistics):
    """A file that StatisticsWriter has written, or llama-moments."""

    has_moments = True

    def __init__(self, file: GgufFile) -> None:
        """Raises StatisticsError where the file is damaged."""
        self.path = file.path
        self._file = file
        self._entries = {t.name: t for t in file.header.tensors}
        self.head = _read_head(file)
        self.fingerprint = self.head.fingerprint or None
        self.tokens = self.head.tokens
        self.description = self.head.description
        self.notes = self.head.notes
        self._inputs = {name: i for i in self.head.inputs for name in i.tensors}
        if len(self._inputs) != sum(len(i.tensors) for i in self.head.inputs):
            raise self._damaged("a tensor stands under two inputs")
        for i in self.head.inputs:
            for tensor in i.stored():
                entry = self._entries.get(tensor.name)
                if entry is None or _shape(entry, len(tensor.shape)) != tensor.shape or entry.type != tensor.type:
                    raise self._damaged(f"{tensor.name} is not what its list of inputs says")
            diagonal = self._stored(f"{i.key}.diagonal").reshape(i.sets, i.row_length)
            check_means(self.path, i.key, self.stored_counts(i), diagonal)
        heard = (i for i in self.head.inputs if self.stored_counts(i).any())
        self._heard = tuple(name for i in heard for name in i.tensors)  # of others nothing is known

    def _damaged(self, what: str) -> StatisticsError:
        return StatisticsError(f"{self.path} is damaged: {what}; calibrate again")

    @property
    def tensor_names(self) -> Sequence[str]:
        return self._heard

    def __contains__(self, tensor_name: object) -> bool:
        return tensor_name in self._heard

    def input_key(self, tensor_name: str) -> str:
        return self._inputs[tensor_name].key

    def row_length(self, tensor_name: str) -> int:
        return self._inputs[tensor_name].row_length

    def counts(self, tensor_name: str) -> NDArray[np.float64]:
        i = self._inputs[tensor_name]
        return np.resize(self.stored_counts(i), i.experts)

    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        i = self._inputs[tensor_name]
        stored = self._stored(f"{i.key}.diagonal").reshape(i.sets, i.row_length).astype(np.float64)
        return np.broadcast_to(stored, (i.experts, i.row_length)) if i.shared else stored

    def moments(self, tensor_name: str, expert: int = 0) -> NDArray[np.float32]:
        i = self._inputs[tensor_name]
        if not 0 <= expert < i.experts:
            raise IndexError(f"{tensor_name} has {i.experts} experts, so none of number {expert}")
        number = 0 if i.shared else expert
        matrix = unpack(self.stored_moments(i, number), i.row_length)
        check_moments(self.path, i.key, matrix)
        return matrix

    def stored_counts(self, layout: InputLayout) -> NDArray[np.float64]:
        """(sets,)"""
        return self._stored(f"{layout.key}.counts")

    def stored_moments(self, layout: InputLayout, number: int, start: int = 0, stop: int | None = None) -> Floats:
        """Packed triangle of a set, or a stretch of it: float32 (n (n + 1) / 2,)"""
        length = packed_length(layout.row_length)
        stop = length if stop is None else min(stop, length)
        first = number * length
        return self._stored(f"{layout.key}.moments", first + start, first + stop)

    def _stored(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """The numbers [start, stop) of a tensor, or all."""
        entry: TensorEntry = self._entries[name]
        kind = np.dtype(np.float32 if entry.type == GGMLQuantizationType.F32 else np.float64)
        stop = entry.nbytes // kind.itemsize if stop is None else stop
        first = self._file.header.data_start + entry.offset + start * kind.itemsize
        return self._file.read(first, (stop - start) * kind.itemsize).view(kind)


def _layouts(content: Any) -> tuple[InputLayout, ...]:
    """The inputs as the head of a file lists them. Raises ValueError, KeyError or TypeError for anything else."""
    if not all(isinstance(i["tensors"], list) for i in content):
        raise ValueError("tensors")
    layouts = tuple(
        InputLayout(i["key"], i["row_length"], i["experts"], i["shared"], tuple(i["tensors"])) for i in content
    )
    for i in layouts:
        numbers = type(i.row_length) is int and type(i.experts) is int and type(i.shared) is bool
        if not numbers or not i.tensors or not all(isinstance(name, str) for name in (i.key, *i.tensors)):
            raise ValueError(f"input {i.key}")
        if i.row_length < 1 or not 1 <= i.experts <= MOST_EXPERTS:
            raise ValueError(f"shape of input {i.key}")
    return layouts


def _shape(entry: TensorEntry, dimensions: int) -> tuple[int, ...]:
    """llama.cpp's writer leaves out dimensions of 1 at the end."""
    return (*entry.shape, *(1,) * (dimensions - len(entry.shape)))


def _read_head(file: GgufFile) -> StatisticsHead:
    get = file.header.get
    if get(_KEY + "version") != VERSION:
        raise StatisticsError(
            f"{file.path} is a statistics file of version {get(_KEY + 'version')}, and this program reads version "
            f"{VERSION}; make a new one with eoq stats collect MODEL {file.path}"
        )
    try:
        listed, notes = (
            parse_json(str(get(_KEY + key)), StatisticsError, f"{file.path} is damaged: its list of {key}")
            for key in ("inputs", "notes")
        )
        inputs = _layouts(listed)
        fingerprint, tokens, description = (get(_KEY + key) for key in ("fingerprint", "tokens", "description"))
        if not (isinstance(fingerprint, str) and type(tokens) is int and isinstance(description, str)):
            raise ValueError("metadata")
        if (
            not 0 <= tokens <= MOST_TOKENS
            or not isinstance(notes, list)
            or not all(isinstance(note, str) for note in notes)
        ):
            raise ValueError("tokens or notes")
    except (ValueError, KeyError, TypeError) as e:
        raise StatisticsError(f"{file.path} is damaged: its head cannot be read ({e}); calibrate again") from None
    return StatisticsHead(fingerprint, tokens, description, tuple(notes), inputs)
