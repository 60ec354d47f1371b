"""Which layers of a checkpoint make up one of vLLM's, and where each of their rows goes.

vLLM joins layers with the same inputs: queries, keys and values are the parts of one matrix. A part comes with a shard
id, `q`, `k`, `v` or its number.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from eoq_formats.tensors import code_bytes
from eoq_formats.types import WeightType
from eoq_transformers.description import FormatError

Types = Mapping[str, WeightType]
ShardId = str | int | tuple[int, ...] | None

_EMBEDDINGS = ("embed_tokens", "word_embeddings", "wte", "tok_embeddings", "embedding", "embeddings")
_NUMBERS: Mapping[ShardId, int] = {"q": 0, "k": 1, "v": 2}


@dataclass(frozen=True)
class Part:
    """Rows of a layer of vLLM that have one type."""

    name: str
    """Of the layer in the checkpoint."""
    type: WeightType
    rows: int
    """On this device."""

    def blocks(self, length: int) -> int:
        """Of a row of `length` weights."""
        return length // self.type.width

    def packed_bytes(self, length: int) -> int:
        """Bytes of the codes of a row of `length` weights."""
        return self.blocks(length) * code_bytes(self.type)


def names_of(layer: str, fused: Mapping[str, Sequence[str]], types: Types) -> tuple[str, ...]:
    """The layers of the checkpoint whose codes are those of a layer of vLLM; none where it has no codes.

    `fused` is vLLM's table of what a model joins, by the last part of the name. Raises FormatError where some of what
    is joined has codes, and some has not.
    """
    if layer in types:
        return (layer,)
    parent, dot, last = layer.rpartition(".")
    names = tuple(f"{parent}{dot}{name}" for name in fused.get(last, ()))
    without = [name for name in names if name not in types]
    if len(without) == len(names):
        return ()
    if without:
        having = next(name for name in names if name in types)
        raise FormatError(
            f"vLLM joins {without[0]}, which has no codes, with {having}, which has; export the model with codes for "
            "both"
        )
    return names


def embeddings_of(types: Types) -> tuple[str, ...]:
    """The token embeddings that have codes, for models of vLLM, such as Llama, that give theirs no name.

    Raises FormatError where there are several.
    """
    found = tuple(name for name in types if name.rpartition(".")[2] in _EMBEDDINGS)
    if len(found) > 1:
        raise FormatError(f"{' and '.join(found)} have codes, and it cannot be told which of them vLLM asks for")
    return found


def parts_of(layer: str, names: Sequence[str], sizes: Sequence[int], types: Types) -> tuple[Part, ...]:
    """The parts of a layer with `sizes` rows each on this device, in order. Raises FormatError."""
    if len(names) == 1:  # or what vLLM joins is one matrix in the checkpoint
        names = [names[0]] * len(sizes)
    used = {types[name] for name in names}
    if len(names) != len(sizes) and len(used) == 1:
        names = [names[0]] * len(sizes)
    if len(names) != len(sizes):
        kinds = ", ".join(sorted(t.name.lower() for t in used))
        raise FormatError(
            f"vLLM has {layer} in {len(sizes)} parts, and {', '.join(names)} of the types {kinds} are {len(names)}; "
            "export the model with one type for these"
        )
    return tuple(Part(name, types[name], size) for name, size in zip(names, sizes, strict=True))


def check_split(parts: Sequence[Part], length_here: int, length: int) -> None:
    """Whether the columns on this device, of rows of `length`, are whole blocks of codes. Raises FormatError."""
    for part in parts:
        width = part.type.width
        if length % width:
            raise FormatError(
                f"{part.name} has {length} columns in vLLM, which are no whole blocks of {width}; the config.json is "
                "of another model"
            )
        if length_here % width:
            raise FormatError(
                f"a device would get {length_here} of the {length} columns of {part.name}, which are no whole blocks "
                f"of {width}; choose a smaller --tensor-parallel-size, or a type with blocks of 64, such as eoq5_64"
            )


def numbers_of(shard: ShardId, count: int) -> tuple[int, ...]:
    """The numbers of the parts that a shard id of vLLM means; all `count` of them for None.

    Raises FormatError for a shard id that is none of these.
    """
    if shard is None:
        return tuple(range(count))
    found = tuple(shard) if isinstance(shard, tuple) else (_NUMBERS.get(shard, shard),)
    numbers = tuple(number for number in found if isinstance(number, int) and 0 <= number < count)
    if len(numbers) != len(found):
        raise FormatError(f"vLLM loads a part {shard!r} of a layer of {count} parts, which this plugin does not know")
    return numbers


def row_slices(parts: Sequence[Part]) -> Iterator[tuple[Part, slice]]:
    """Each part with its rows of the layer."""
    start = 0
    for part in parts:
        yield part, slice(start, start + part.rows)
        start += part.rows
