"""Which scales may be folded where in a model.

A linear tensor (a consumer) computes W x. For positive s, W diag(s) computes the same from x / s, and x / s comes for
free where x comes from a tensor before it (the producer) with nothing but linear steps between: from a norm's weight,
or from the rows of another matrix (AWQ, Lin et al. 2023, section 3.2). A fold is legal only if *all* that reads x is
among the consumers, so no rule is applied to a block that holds a tensor which its architecture's table does not know.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from converter.scaling.fold_rules import ARCHITECTURES, MODEL_TENSORS, Refusal, Rows, Rule
from gguf_files.header import MetadataEntry
from gguf_files.names import BLOCK, OUTPUT, OUTPUT_NORM, block_name
from gguf_files.tensors import TensorInfo


@dataclass(frozen=True)
class Producer:
    """A tensor that gives the channels of a group: its rows, or the elements of a vector."""

    tensor: TensorInfo
    first: int = 0
    """The row (of each expert) or element that gives the first channel; those before give something else."""

    @property
    def is_vector(self) -> bool:
        """Whether channels are elements (of a norm or bias, one row for each expert) and not rows."""
        return self.tensor.dimensions == 1 or self.tensor.name.endswith(".bias")


@dataclass(frozen=True)
class FoldGroup:
    """Tensors that share scales: producers are divided by them, the input columns of consumers multiplied."""

    kind: str
    """The rule behind it, such as `attn_norm` or `ffn_up_exps`."""
    producers: tuple[Producer, ...]
    """At least one; the first is the weight, others are its biases."""
    consumers: tuple[TensorInfo, ...]
    channels: int
    """Input channels of each consumer."""
    heads: int = 1
    """Attention heads that the channels belong to; 1 where channels are not grouped."""
    kv_heads: int = 1
    """Heads of the producer. Each serves heads / kv_heads neighbouring heads of the consumer (grouped-query)."""
    experts: int = 1
    """Experts with scales of their own."""

    @property
    def name(self) -> str:
        return self.producers[0].tensor.name

    @property
    def sources(self) -> int:
        """Scales that can be chosen freely (for each expert): channels of the producers."""
        return self.channels // self.heads * self.kv_heads

    @property
    def source_of_channel(self) -> NDArray[np.int64]:
        """int64 (channels,): the producers' channel that each input channel of the consumers comes from."""
        length = self.channels // self.heads
        heads = np.arange(self.heads) * self.kv_heads // self.heads
        return (heads[:, None] * length + np.arange(length)).reshape(-1)


@dataclass(frozen=True)
class FoldTable:
    """All that can be folded in a model, and what cannot."""

    groups: tuple[FoldGroup, ...]
    refusals: tuple[Refusal, ...]


@dataclass
class _Block:
    """The tensors of one block by their name without its number."""

    number: int
    tensors: dict[str, TensorInfo] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return block_name(self.number)

    def present(self, names: Collection[str]) -> list[TensorInfo]:
        return [self.tensors[name] for name in names if name in self.tensors]


class _Illegal(Exception):
    """A rule that does not fit the tensors at hand."""


def fold_groups(
    architecture: str,
    tensors: Sequence[TensorInfo],
    metadata: Sequence[MetadataEntry],
    fixed: Collection[str] = (),
    head: bool = False,
) -> FoldTable:
    """All legal fold groups of a model, blocks in order.

    `fixed` names tensors whose bytes must stay, such as those that keep a quantised type: no group has them. With
    `head`, output_norm -> output is a group where it is legal for the logits; what the output norm gives is also what
    llama.cpp returns as embeddings, so they change.
    """
    table = ARCHITECTURES.get(architecture)
    if table is None:
        return FoldTable((), (Refusal("the model", f"no fold table is known for architecture {architecture}"),))
    heads = _heads(architecture, metadata)
    groups: list[FoldGroup] = []
    refusals = list(table.refused)
    for block in _blocks(tensors):
        unknown = sorted(block.tensors.keys() - table.known)
        if unknown:
            refusals.append(Refusal(block.name, f"the fold table of {architecture} does not know its {unknown[0]}"))
            continue
        for rule in table.rules:
            try:
                group = _apply(rule, block, heads)
            except _Illegal as illegal:
                refusals.append(Refusal(f"{block.name}.{rule.kind}", str(illegal)))
                continue
            if group is not None:
                groups.append(group)
    if table.has_output:
        outputs = _output_group(tensors, head)
        if isinstance(outputs, FoldGroup):
            groups.append(outputs)
        else:
            refusals.append(outputs)
    kept = []
    for group in groups:
        stuck = next((t.name for t in _members(group) if t.name in fixed), None)
        if stuck is None:
            kept.append(group)
        else:
            refusals.append(Refusal(group.name, f"{stuck} keeps the bytes that it has"))
    return FoldTable(tuple(kept), tuple(refusals))


def _members(group: FoldGroup) -> list[TensorInfo]:
    return [*(p.tensor for p in group.producers), *group.consumers]


def _blocks(tensors: Sequence[TensorInfo]) -> list[_Block]:
    blocks: dict[int, _Block] = {}
    for tensor in tensors:
        match = BLOCK.fullmatch(tensor.name)
        if match and not match["prefix"]:
            number = int(match["index"])
            blocks.setdefault(number, _Block(number)).tensors[match["part"]] = tensor
    return [blocks[number] for number in sorted(blocks)]


def _heads(architecture: str, metadata: Sequence[MetadataEntry]) -> tuple[int, int] | None:
    """Attention heads of queries and of values; None where the metadata does not say, or not with one number."""
    values = {entry.key: entry.value for entry in metadata}
    heads = values.get(f"{architecture}.attention.head_count")
    key = f"{architecture}.attention.head_count_kv"
    kv_heads = values.get(key, heads)
    if not isinstance(heads, int) or not isinstance(kv_heads, int) or heads < 1 or kv_heads < 1 or heads % kv_heads:
        return None
    return heads, kv_heads


def _apply(rule: Rule, block: _Block, heads: tuple[int, int] | None) -> FoldGroup | None:
    """The group that a rule makes of a block; None where the block has no such tensors. Raises _Illegal."""
    producers, consumers = block.present(tuple(rule.producers)), block.present(rule.consumers)
    weights = [t for t in producers if t.name.endswith(".weight")]
    if not weights or not consumers:
        return None
    if len(weights) > 1:
        raise _Illegal(f"{weights[0].name} and {weights[1].name} do not go together")
    if rule.gate and not block.present(rule.gate):
        raise _Illegal(f"without {rule.gate[0]} a nonlinearity follows {weights[0].name}")
    channels = consumers[0].row_length
    odd = next((t for t in consumers if t.row_length != channels), None)
    if odd is not None:
        raise _Illegal(f"rows of {odd.name} and {consumers[0].name} differ in length")
    experts = _experts(weights[0], consumers) if rule.per_expert else 1
    own, kv = 1, 1
    if rule.grouped:
        if heads is None:
            raise _Illegal("the metadata gives no single number of attention heads for all blocks")
        own, kv = heads
        if channels % own:
            raise _Illegal(f"{channels} channels of {consumers[0].name} are not {own} equal heads")
    sources = channels // own * kv
    made = tuple(_producer(t, rule.producers[_suffix(t, block)], sources, own, kv) for t in producers)
    return FoldGroup(rule.kind, made, tuple(consumers), channels, own, kv, experts)


def _suffix(tensor: TensorInfo, block: _Block) -> str:
    return tensor.name.removeprefix(f"{block.name}.")


def _experts(producer: TensorInfo, consumers: Sequence[TensorInfo]) -> int:
    counts = {t.matrices for t in (producer, *consumers)}
    if len(counts) != 1:
        raise _Illegal(f"{producer.name} and {consumers[0].name} differ in the number of experts")
    return counts.pop()


def _producer(tensor: TensorInfo, rows: Rows, sources: int, heads: int, kv_heads: int) -> Producer:
    """The producer whose last `sources` rows or elements give the channels. Raises _Illegal."""
    made = Producer(tensor)
    length = tensor.row_length if made.is_vector else tensor.shape[1]
    before = length - sources
    fits = {
        Rows.ALL: before == 0,
        Rows.UP: before == sources,
        # queries and keys, which have heads of one length
        Rows.VALUES: before > 0 and before % (heads + kv_heads) == 0,
    }
    if not fits[rows]:
        raise _Illegal(f"{tensor.name} has {length} channels, which do not make the {sources} that are read from it")
    return Producer(tensor, before)


def _output_group(tensors: Sequence[TensorInfo], wanted: bool) -> FoldGroup | Refusal:
    """Output norm -> output, or why not."""
    outside = {t.name: t for t in tensors if not t.name.startswith("blk.")}
    norm, output = outside.get(OUTPUT_NORM), outside.get(OUTPUT)
    if norm is None:
        return Refusal("output_norm", "the model has none")
    if output is None:
        return Refusal("output_norm", "the output is the token embedding, which the first block reads as well")
    unknown = sorted(outside.keys() - MODEL_TENSORS)
    if unknown:
        return Refusal("output_norm", f"the fold table does not know what {unknown[0]} reads")
    if not wanted:
        return Refusal("output_norm", "what it gives is what embedding programs return")
    vectors = [Producer(t) for name in (OUTPUT_NORM, "output_norm.bias") if (t := outside.get(name))]
    if any(p.tensor.row_length != output.row_length for p in vectors):
        return Refusal("output_norm", "its length is not that of the output's rows")
    return FoldGroup("output_norm", tuple(vectors), (output,), output.row_length)
