"""The blocks of a model, for planners that decide on them as a whole."""

from collections.abc import Sequence

from converter.plan.keep_rules import keep_reason
from gguf_files.names import BLOCK
from gguf_files.tensors import TensorInfo


def blocks_of(tensors: Sequence[TensorInfo], architecture: str) -> dict[str, list[TensorInfo]]:
    """The weight matrices that are quantised, by block (`blk.0`), in the model's order. Embeddings and output are in
    none."""
    blocks: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        match = BLOCK.match(tensor.name)
        if match and keep_reason(tensor, architecture) is None:
            blocks.setdefault(match["block"], []).append(tensor)
    return dict(sorted(blocks.items(), key=lambda item: block_order(item[0])))


def block_order(block: str) -> tuple[str, int]:
    """What blocks are sorted by: prefix and index."""
    prefix, _, index = block.rpartition(".")
    return prefix, int(index)
