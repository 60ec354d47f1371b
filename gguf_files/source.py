"""The model to convert: the tensors and metadata of a GGUF file, or of all its splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gguf_files.errors import SourceError
from gguf_files.gguf_file import GgufFile
from gguf_files.header import MetadataEntry
from gguf_files.output.splits import SPLIT_NAME, split_paths
from gguf_files.tensor_types import row_bytes
from gguf_files.tensors import TensorInfo
from gguf_files.unchanged import FileState
from gguf_files.vocabulary import check_vocabulary


@dataclass(frozen=True)
class _Place:
    file: GgufFile
    start: int


class Source:
    """An open model. Tensors keep the order of the file."""

    def __init__(self, files: Sequence[GgufFile], named: Path | None = None) -> None:
        """`named` is what the user calls the model, where it is not the first file."""
        self.paths = tuple(file.path for file in files)
        self.named = named or self.paths[0]
        self._files = files
        self.metadata: tuple[MetadataEntry, ...] = files[0].header.metadata
        self.alignment = files[0].header.alignment
        self.tensors: list[TensorInfo] = []
        self._places: dict[str, _Place] = {}
        for file in files:
            for t in file.header.tensors:
                if t.name in self._places:
                    raise SourceError(
                        f"tensor {t.name} stands both in {self._places[t.name].file.path} and {file.path}"
                    )
                self.tensors.append(TensorInfo(t.name, t.shape, t.type))
                self._places[t.name] = _Place(file, file.header.data_start + t.offset)
        architecture = files[0].header.get("general.architecture")
        if not isinstance(architecture, str) or not architecture:
            raise SourceError(f"{self.paths[0]} is not a model: its metadata names no architecture")
        try:
            check_vocabulary(self.metadata)
        except SourceError as e:
            raise SourceError(f"{self.paths[0]} is no model that llama.cpp loads: {e}") from None
        if not self.tensors:
            raise SourceError(f"{self.paths[0]} holds no tensors, so there is nothing to convert")
        self.architecture = architecture

    @property
    def nbytes(self) -> int:
        return sum(file.state.size for file in self._files)

    def value(self, key: str) -> str | int | float | bool | None:
        """A value of the metadata, with the architecture for `{arch}`; None if there is none, or for an array."""
        key = key.replace("{arch}", self.architecture)
        return next((entry.value for entry in self.metadata if entry.key == key), None)

    def number(self, key: str) -> int | None:
        """The value of a key where it is a whole number, else None."""
        content = self.value(key)
        return content if isinstance(content, int) else None

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows [start, stop) as they lie in the file, uint8 (rows, row bytes).

        Raises SourceError where they cannot be read, or the file has changed since it was opened.
        """
        place = self._places[tensor.name]
        size = row_bytes(tensor.type, tensor.row_length)
        return place.file.read(place.start + start * size, (stop - start) * size).reshape(stop - start, size)

    @property
    def states(self) -> dict[Path, FileState]:
        """What the files were when they were opened."""
        return {file.path: file.state for file in self._files}

    def check_unchanged(self) -> None:
        """Raises SourceError where somebody has written to one of the files since they were opened."""
        for file in self._files:
            file.check_unchanged()


def open_gguf(path: Path, named: Path | None = None) -> Source:
    """Open a GGUF file with all its splits; `named` is what the user calls the model, if not so. Raises SourceError."""
    first = GgufFile(path)
    return Source([first, *_other_splits(first)], named)


def _other_splits(first: GgufFile) -> list[GgufFile]:
    count = first.header.get("split.count")
    if not isinstance(count, int) or count <= 1:
        return []
    name = SPLIT_NAME.fullmatch(first.path.name)
    if name is None or int(name["count"]) != count:
        raise SourceError(
            f"{first.path} is one of {count} splits but not named so (NAME-00001-of-{count:05}.gguf); "
            "give the splits their names back, or join them with llama-gguf-split --merge"
        )
    paths = split_paths(first.path.with_name(name["stem"] + ".gguf"), count)
    if first.header.get("split.no") != 0 or first.path != paths[0]:
        raise SourceError(f"{first.path} is not the first of its {count} splits; give {paths[0]}")
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise SourceError(
            f"{first.path} is one of {count} splits, and these are missing beside it: {', '.join(missing)}"
        )
    splits = [GgufFile(path) for path in paths[1:]]
    for i, split in enumerate(splits, 1):
        if split.header.get("split.no") != i or split.header.get("split.count") != count:
            raise SourceError(f"{split.path} is not split {i + 1} of {count} of this model")
    total = first.header.get("split.tensors.count")
    present = sum(len(file.header.tensors) for file in (first, *splits))
    if isinstance(total, int) and total != present:
        raise SourceError(f"the {count} splits of {first.path} hold {present} tensors instead of {total}")
    return splits
