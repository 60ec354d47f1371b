"""A folder of EOQ codes, looked at before anything is made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.ingest.safetensors_folder import StoredTensor
from eoq_formats.tensors import joined
from eoq_formats.types import WeightType
from eoq_transformers.description import (
    AWQ_SCALES,
    METHOD,
    NORMS,
    PACKED,
    PARTS,
    FormatError,
    Recorded,
    Stored,
    check_codes,
    read_description,
    read_float_names,
    read_recorded,
)
from hf_export.stored_rows import rows_of


@dataclass(frozen=True)
class CodedLayer:
    """A matrix of the folder that is in codes, or several in one tensor."""

    name: str
    """Of the tensor that floats would be in."""
    type: WeightType
    shape: tuple[int, ...]
    """Of the weights, row length last."""
    packed: StoredTensor
    norms: StoredTensor

    @property
    def rows(self) -> int:
        """Over all matrices."""
        return prod(self.shape[:-1])

    @property
    def row_length(self) -> int:
        return self.shape[-1]

    def read(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows [start, stop) as a GGUF has them, uint8 (rows, row bytes).

        Raises SourceError where they cannot be read, and FormatError for scales that are no numbers.
        """
        packed, norms = (_rows(t, start, stop) for t in (self.packed, self.norms))
        scales = norms.view("<f2")
        if not np.isfinite(scales).all():
            raise FormatError(f"{self.norms.name} has NaN or infinite values; get the files again")
        return joined(packed, scales, self.type)


def _rows(tensor: StoredTensor, start: int, stop: int) -> NDArray[np.uint8]:
    size = tensor.nbytes // rows_of(tensor)
    return tensor.file.read(tensor.start + start * size, (stop - start) * size).reshape(stop - start, size)


@dataclass(frozen=True)
class CodedFolder:
    """A folder of codes that has passed the checks."""

    folder: HfFolder
    layers: tuple[CodedLayer, ...]
    others: tuple[StoredTensor, ...]
    """Tensors that are not in codes."""
    recorded: Mapping[str, Recorded]
    """What it keeps of the GGUF that its codes are from."""


def read_coded_folder(path: Path) -> CodedFolder:
    """Look at a folder that `export` has written. Raises FormatError or SourceError."""
    folder = read_hf_folder(path, allow_requantize=True)
    described = folder.config.get("quantization_config")
    if not isinstance(described, dict) or described.get("quant_method") != METHOD:
        raise FormatError(f"{path} is no model of EOQ codes; make one with eoq export-hf")
    types, names, recorded = read_description(described), read_float_names(described), read_recorded(described)
    stored = {t.name: t for t in folder.tensors}
    codes = check_codes(types, {name: Stored(t.dtype, t.shape) for name, t in stored.items()})
    for layer, found in codes.items():
        if found.has_scales:
            raise FormatError(
                f"the channels of {layer} are scaled by {layer}.{AWQ_SCALES}, for which a GGUF has no place; export "
                "the model again, with the scales folded into the layers before"
            )
        if names[layer] in stored:
            raise FormatError(f"the folder has {layer} both in codes and as {names[layer]}; export the model again")
    layers = tuple(
        CodedLayer(names[layer], c.type, c.shape, stored[f"{layer}.{PACKED}"], stored[f"{layer}.{NORMS}"])
        for layer, c in codes.items()
    )
    parts = {f"{layer}.{part}" for layer in codes for part in PARTS}
    others = tuple(t for t in folder.tensors if t.name not in parts)
    odd = next((t.name for t in others if t.name.endswith(f".{PACKED}")), None)
    if odd is not None:
        raise FormatError(
            f"the folder has codes, {odd}, of which its quantization_config tells nothing; export it anew"
        )
    return CodedFolder(folder, layers, others, recorded)
