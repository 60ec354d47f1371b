"""Rows of the data set by EWQ's own decisions on a model at hand."""

from collections.abc import Sequence
from pathlib import Path

from converter.errors import QuantizedSourceError
from converter.plan.ewq import Block, Decisions
from converter.plan.fastewq.blocks import FIRST_BLOCK, blocks_of_model
from converter.plan.fastewq.dataset import BlockRow
from converter.source import Source
from converter.tensor_types import is_quantized, type_name


def measured_rows(model: Source, path: Path, measured: Sequence[Block], decisions: Decisions) -> list[BlockRow]:
    """One for each block, under the model's own name or else the file's. Raises QuantizedSourceError."""
    for tensor in model.tensors:
        if is_quantized(tensor.type):
            raise QuantizedSourceError(
                f"tensor {tensor.name} of {path} is quantised ({type_name(tensor.type)}), so its entropy says nothing "
                "of the model; give the original"
            )
    decided = dict(zip((block.name for block in measured), decisions.levels, strict=True))
    blocks = blocks_of_model(model)
    return [
        BlockRow(
            str(model.value("general.name") or path.stem),
            len(blocks),
            i + FIRST_BLOCK,
            b.parameters,
            decided.get(b.name, "raw"),
            "ewq",
        )
        for i, b in enumerate(blocks)
    ]
