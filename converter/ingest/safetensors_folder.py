"""The weights of a Hugging Face folder: which files they are in, whether these are whole, what they hold."""

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from gguf_files.errors import SourceError, UnreadableError
from gguf_files.unchanged import OpenFile
from input_files.structured import parse_json, read_json

MODEL = "model"
"""How the names of files with weights begin."""
INDEX = "model.safetensors.index.json"
WHOLE = "model.safetensors"
_LENGTH = struct.Struct("<Q")
_MOST_HEAD_BYTES = 100_000_000
"""As in the safetensors library."""
_PIECE = 1 << 24
_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Of an element, by its type."""
_SHARD = re.compile(r".*-(\d+)-of-(\d+)\.safetensors")
_LFS_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file."""

    name: str
    dtype: str
    """Element type as safetensors writes it: `BF16`, `F8_E4M3`, …"""
    shape: tuple[int, ...]
    """Row length last."""
    file: OpenFile
    start: int
    """Byte of the file that its data begins at."""
    nbytes: int

    @property
    def weights(self) -> int:
        return prod(self.shape)


def read_tensor_list(folder: Path, prefix: str = MODEL) -> list[StoredTensor]:
    """All tensors of a folder's safetensors files, whose lengths are checked against what their heads promise.

    Their names begin with `prefix`, or stand in the index that transformers has. Empty for a folder without such files.
    Raises SourceError for files that are missing, cut short or damaged, and for two with other values for a tensor.
    """
    index = read_index(folder) if prefix == MODEL else {}
    missing = sorted(file for file in set(index.values()) if not (folder / file).exists())
    if missing:
        raise SourceError(f"the folder {folder} is incomplete: {', '.join(missing)} of {INDEX} is missing")
    names = (
        sorted(set(index.values())) if index else sorted(path.name for path in folder.glob(f"{prefix}*.safetensors"))
    )
    if not index:
        _check_shards(folder, names)
    found = [tensor for name in names for tensor in _read_file(folder / name)]
    whole = folder / f"{prefix}.safetensors"
    # transformers takes it before the shards of an index, llama.cpp's converter these
    _check_twice([*found, *(_read_file(whole) if whole.name not in names and whole.exists() else ())])
    tensors = list({t.name: t for t in found}.values())
    missing = sorted(set(index) - {t.name for t in tensors})
    if missing:
        raise SourceError(f"{folder / index[missing[0]]} lacks the tensor {missing[0]}, which {INDEX} says is in it")
    return tensors


def read_index(folder: Path) -> dict[str, str]:
    """Tensor name to file name; empty without an index. Raises SourceError for one that is damaged."""
    path = folder / INDEX
    if not path.exists():
        return {}
    content = read_json(path, SourceError)
    index = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise SourceError(f"{path} is damaged: it has no weight_map of tensors to files; get it again")
    for file in sorted(set(index.values())):
        # also "..", "." and nothing at all
        if not file.endswith(".safetensors") or "\0" in file or Path(file).name != file:
            raise SourceError(f"{path} points to {file!r}, which is no .safetensors file in its folder; get it again")
    return index


def _check_shards(folder: Path, names: Iterable[str]) -> None:
    """Without an index, the names say how many files there are."""
    shards = [(int(m[1]), int(m[2])) for name in names if (m := _SHARD.fullmatch(name))]
    if not shards:
        return
    numbers, count = {number for number, _ in shards}, shards[0][1]
    if (len(numbers), min(numbers), max(numbers)) != (count, 1, count):
        raise SourceError(f"the folder {folder} is incomplete: it has {len(shards)} of {count} safetensors files")


def _read_file(path: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file, whose head is checked as the format's own reader does. Raises SourceError."""
    file = OpenFile(path)
    try:
        return _read_head(file)
    except UnreadableError:
        raise
    except SourceError as e:
        reason = "it is a Git LFS pointer; fetch the weights with git lfs pull" if is_lfs_pointer(path) else f"{e}"
        raise SourceError(f"{path} is cut short or damaged: {reason}") from None


def _read_head(file: OpenFile) -> list[StoredTensor]:
    """Raises SourceError with what is wrong. Layout: a length in 8 bytes, so much JSON, and the data without gaps."""
    if file.state.size < _LENGTH.size:
        raise SourceError(f"it has {file.state.size} bytes; get it again")
    (length,) = _LENGTH.unpack(file.read(0, _LENGTH.size).tobytes())
    data_start = _LENGTH.size + length
    if length > _MOST_HEAD_BYTES or data_start > file.state.size:
        raise SourceError(f"its head would have {length:,} bytes; get it again")
    try:
        text = file.read(_LENGTH.size, length).tobytes().decode("utf-8")
    except UnicodeDecodeError:
        raise SourceError("its head is not UTF-8 text; get it again") from None
    head = parse_json(text, SourceError, "its head")
    if not isinstance(head, dict):
        raise SourceError("its head lists no tensors; get it again")
    head.pop("__metadata__", None)
    tensors = sorted((_entry(file, data_start, *item) for item in head.items()), key=lambda t: (t.start, t.nbytes))
    end = data_start
    for t in tensors:
        if t.start != end:
            raise SourceError(f"the data of {t.name} does not begin where that of the tensors before it ends")
        end += t.nbytes
    if end != file.state.size:
        raise SourceError(f"it has {file.state.size:,} bytes, and its head promises {end:,}; get it again")
    return tensors


def _entry(file: OpenFile, data_start: int, name: str, content: Any) -> StoredTensor:
    try:
        kind, shape, (begin, end) = content["dtype"], content["shape"], content["data_offsets"]
        bits = _BITS[kind]
        if not all(type(n) is int and 0 <= n < 2**63 for n in (*shape, begin, end)):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise SourceError(f"its head says nothing sound of {name}; get it again") from None
    if 8 * (end - begin) != bits * prod(shape):
        raise SourceError(f"{name} has {end - begin:,} bytes, which are no {kind} of shape {shape}; get it again")
    return StoredTensor(name, kind, tuple(shape), file, data_start + begin, end - begin)


def _check_twice(tensors: Iterable[StoredTensor]) -> None:
    """Refuse a tensor that stands in two files with different values, of which a reader would take either."""
    first: dict[str, StoredTensor] = {}
    for t in tensors:
        other = first.setdefault(t.name, t)
        if other is not t and not _are_equal(other, t):
            raise SourceError(
                f"the tensor {t.name} stands in {other.file.path} and in {t.file.path} with different values; remove "
                "the file that is not of this model"
            )


def _are_equal(a: StoredTensor, b: StoredTensor) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    for start in range(0, a.nbytes, _PIECE):
        size = min(_PIECE, a.nbytes - start)
        if not np.array_equal(a.file.read(a.start + start, size), b.file.read(b.start + start, size)):
            return False
    return True


def is_lfs_pointer(path: Path) -> bool:
    """Whether Git left a few lines in place of the file, which git lfs pull fetches."""
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER
