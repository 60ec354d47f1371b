"""A model in splits: their names, the tensors and the metadata of each, as llama-gguf-split lays them out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gguf import GGUF_DEFAULT_ALIGNMENT, GGUFValueType

from gguf_files.header import ALIGNMENT_KEY, MetadataEntry, align, pack_entry
from gguf_files.tensors import TensorInfo

SPLIT_NAME = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)
MOST_SPLITS = (1 << 16) - 1
"""`split.count` is a uint16."""
_END = ".gguf"


@dataclass(frozen=True)
class SplitLimit:
    """How large a split may get; None for no limit. Raises ValueError for a limit below 1."""

    nbytes: int | None = None
    """Bytes of its tensors. A tensor that is larger gets a split of its own; the head is not counted."""
    tensors: int | None = None
    """How many tensors it has."""

    def __post_init__(self) -> None:
        if any(limit is not None and limit < 1 for limit in (self.nbytes, self.tensors)):
            raise ValueError("the limit of a split is at least 1")

    @property
    def text(self) -> str:
        """For records: `7000000000 bytes, 100 tensors`."""
        given = ((self.nbytes, "bytes"), (self.tensors, "tensors"))
        return ", ".join(f"{limit} {unit}" for limit, unit in given if limit is not None)


def split_tensors(tensors: Sequence[TensorInfo], limit: SplitLimit | None) -> list[Sequence[TensorInfo]]:
    """The tensors of each split, in order. Without a limit, or within it, all in one."""
    if limit is None:
        return [tensors]
    edges, size = [0], 0
    for number, tensor in enumerate(tensors):
        nbytes = align(tensor.nbytes, GGUF_DEFAULT_ALIGNMENT)
        full = limit.nbytes is not None and size + nbytes > limit.nbytes
        if number > edges[-1] and (full or number - edges[-1] == limit.tensors):
            edges.append(number)
            size = 0
        size += nbytes
    return [tensors[start:stop] for start, stop in zip(edges, [*edges[1:], len(tensors)], strict=True)]


def split_paths(target: Path, count: int) -> list[Path]:
    """Where the splits of OUT.gguf go: OUT-00001-of-00003.gguf and so on; a single one goes to OUT.gguf itself."""
    if count == 1:
        return [target]
    stem = target.name.removesuffix(_END)
    return [target.with_name(f"{stem}-{number:05}-of-{count:05}{_END}") for number in range(1, count + 1)]


def stale_files(target: Path, count: int) -> list[Path]:
    """Older outputs of the name of `target` in another number of files than `count`. Raises OSError."""
    stem = target.name.removesuffix(_END)
    found = []
    for path in target.parent.iterdir():
        name = SPLIT_NAME.fullmatch(path.name)
        if (count > 1 and path == target) or (name and name["stem"] == stem and int(name["count"]) != count):
            found.append(path)
    return sorted(found)


def split_metadata(metadata: Sequence[MetadataEntry], number: int, count: int, tensors: int) -> Sequence[MetadataEntry]:
    """Entries of split `number` (from 0) of a model of so many tensors: all in the first, later ones have their place.

    Later ones keep the alignment as well, which each file is read with.
    """
    if count == 1:
        return metadata
    kept = metadata if number == 0 else [entry for entry in metadata if entry.key == ALIGNMENT_KEY]
    return [
        *kept,
        pack_entry("split.no", GGUFValueType.UINT16, number),
        pack_entry("split.count", GGUFValueType.UINT16, count),
        pack_entry("split.tensors.count", GGUFValueType.INT32, tensors),
    ]
