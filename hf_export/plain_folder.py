"""A folder for llama.cpp's converter: that of the codes, with the numbers of rows in their place."""

import json
import re
from pathlib import Path

import numpy as np

from converter.ingest.safetensors_folder import INDEX, StoredTensor
from hf_export.coded_folder import CodedFolder, CodedLayer
from hf_export.numbered_rows import RowNumbers
from hf_export.shards import ShardWriter, Tensor
from hf_export.stored_rows import as_stored, read_bytes
from output_files.whole import explained
from terminal.progress import Progress

BYTES = {"F32": 4, "F16": 2, "BF16": 2}
"""Of a value of the types that rows of numbers can have."""
_DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_SHARD_BYTES = 1 << 27
_CHUNK = 1 << 22
"""Weights in floats at a time."""
_CONFIG = "config.json"


def dtype_of(coded: CodedFolder) -> str:
    """The type of floats, as safetensors writes it, that all matrices are of, or F32, which has those of all."""
    config = coded.folder.config
    named = _DTYPES.get(str(config.get("dtype") or config.get("torch_dtype")))
    found = {t.dtype for t in coded.others if len(t.shape) > 1} | ({named} if named else set())
    return found.pop() if len(found) == 1 and found <= set(BYTES) else "F32"


def write_plain(coded: CodedFolder, numbers: RowNumbers, dtype: str, target: Path, progress: Progress) -> None:
    """Write the folder `target`. Raises TargetError, and ExportError for other tensors of a type that PyTorch lacks."""
    source = coded.folder.path.resolve()
    tensors: list[CodedLayer | StoredTensor] = [*coded.layers, *coded.others]
    places = {layer.name: place for place, layer in enumerate(coded.layers)}
    progress.stage("numbering the rows", sum(layer.rows * layer.row_length for layer in coded.layers))
    with explained(f"cannot write {target.parent}"):
        target.mkdir()
        for entry in source.iterdir():
            if entry.name not in (_CONFIG, INDEX) and entry.suffix != ".safetensors":
                (target / entry.name).symlink_to(entry, target_is_directory=entry.is_dir())
        config = {key: value for key, value in coded.folder.config.items() if key != "quantization_config"}
        (target / _CONFIG).write_text(json.dumps(config), encoding="utf-8")
        shards = ShardWriter(target, _SHARD_BYTES)
        # the GGUF gets its tensors in the order of the files, so what a block has stays together
        for t in sorted(tensors, key=lambda t: _in_order(t.name)):
            if isinstance(t, CodedLayer):
                data = _numbered(t, places[t.name], numbers, dtype)
                progress.advance(t.rows * t.row_length)
                shards.add([Tensor(t.name, dtype, t.shape, data)])
            else:
                shards.add([Tensor(t.name, t.dtype, t.shape, read_bytes(t))])
        shards.finish()


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts `layers.2` before `layers.10`."""
    parts = re.split("([0-9]+)", name)
    return [(len(part) if number % 2 else 0, part) for number, part in enumerate(parts)]


def _numbered(layer: CodedLayer, place: int, numbers: RowNumbers, dtype: str) -> bytes:
    """What stands in the rows of a layer, which is the one of this place in the list."""
    step = max(1, _CHUNK // layer.row_length)
    starts = range(0, layer.rows, step)
    pieces = (numbers.values(place, np.arange(start, min(start + step, layer.rows))) for start in starts)
    return b"".join(as_stored(piece, dtype)[1] for piece in pieces)
