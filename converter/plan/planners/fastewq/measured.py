"""Rows of the data set by EWQ's own decisions on a model at hand."""

from collections.abc import Sequence
from pathlib import Path

from converter.plan.planners.ewq import Block, Decisions
from converter.plan.planners.fastewq.blocks import FIRST_BLOCK, blocks_of_model
from converter.plan.planners.fastewq.dataset import BlockRow
from gguf_files.errors import QuantizedSourceError
from gguf_files.source import Source
from gguf_files.tensor_types import is_quantized, type_name


def measured_rows(source: Source, path: Path, measured: Sequence[Block], decisions: Decisions) -> list[BlockRow]:
    """One for each block, under the model's own name or else the file's. Raises QuantizedSourceError."""
    for tensor in source.tensors:
        if is_quantized(tensor.type):
            raise QuantizedSourceError(
                f"tensor {tensor.name} of {path} is quantised ({type_name(tensor.type)}), so its entropy says nothing "
                "of the model; give the original"
            )
    decided = dict(zip((block.name for block in measured), decisions.levels, strict=True))
    blocks = blocks_of_model(source)
    return [
        BlockRow(
            str(source.value("general.name") or path.stem),
            len(blocks),
            i + FIRST_BLOCK,
            b.parameters,
            decided.get(b.name, "raw"),
            "ewq",
        )
        for i, b in enumerate(blocks)
    ]
