"""The weights of a Hugging Face folder: which files they are in, whether these are whole, what they hold."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from gguf_files.errors import SourceError
from input_files.ordinary import check_ordinary
from input_files.structured import read_json

INDEX = "model.safetensors.index.json"
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

    @property
    def weights(self) -> int:
        return prod(self.shape)


def read_tensor_list(folder: Path) -> list[StoredTensor]:
    """All tensors of a folder's safetensors files, whose lengths are checked against what their heads promise.

    Empty for a folder without such files. Raises SourceError for files that are missing, cut short or damaged.
    """
    index = _read_index(folder)
    names = sorted(set(index.values())) if index else sorted(path.name for path in folder.glob("model*.safetensors"))
    if not index:
        _check_shards(folder, names)
    tensors = [tensor for name in names for tensor in _read_file(folder / name)]
    missing = sorted(set(index) - {t.name for t in tensors})
    if missing:
        raise SourceError(f"{folder / index[missing[0]]} lacks the tensor {missing[0]}, which {INDEX} says is in it")
    return tensors


def _read_index(folder: Path) -> dict[str, str]:
    """Tensor name to file name; empty without an index."""
    path = folder / INDEX
    if not path.exists():
        return {}
    content = read_json(path, SourceError)
    index = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(index, dict) or not all(isinstance(file, str) for file in index.values()):
        raise SourceError(f"{path} is damaged: it has no weight_map of tensors to files; get it again")
    files = set(index.values())
    for file in sorted(files):
        # also "..", "." and nothing at all
        if not file.endswith(".safetensors") or "\0" in file or Path(file).name != file:
            raise SourceError(f"{path} points to {file!r}, which is no .safetensors file in its folder; get it again")
    missing = sorted(file for file in files if not (folder / file).exists())
    if missing:
        raise SourceError(f"the folder {folder} is incomplete: {', '.join(missing)} of {INDEX} is missing")
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
    check_ordinary(path, SourceError)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = [(name, file.get_slice(name)) for name in file.keys()]  # noqa: SIM118 (not a dict)
            return [StoredTensor(name, s.get_dtype(), tuple(s.get_shape())) for name, s in slices]
    except (SafetensorError, OSError) as e:
        with path.open("rb") as damaged:
            pointer = damaged.read(len(_LFS_POINTER)) == _LFS_POINTER
        reason = "it is a Git LFS pointer; fetch the weights with git lfs pull" if pointer else f"{e}"
        raise SourceError(f"{path} is cut short or damaged: {reason}") from None
