"""Numbered rows are found wherever whole rows go, and what has become of them in another way is refused."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from converter.ingest.safetensors_folder import read_tensor_list
from eoq_formats.types import weight_type
from gguf_files.source import open_gguf
from gguf_files.weights import RowWorkers, SourceWeights
from hf_export.coded_folder import CodedLayer
from hf_export.errors import ExportError
from hf_export.numbered_rows import FoundRows, RowNumbers, find_rows
from terminal.progress import Progress
from tests.samples.gguf_samples import random_weights, write_gguf

Arrays = Mapping[str, NDArray[np.generic]]
SHAPES = {"a": (6, 128), "b": (2, 3, 128), "c": (200, 64)}


@pytest.fixture
def layers(tmp_path: Path) -> list[CodedLayer]:
    """Of random codes; `c` has more rows than digits count in one place."""
    random = np.random.default_rng(1)
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, shape in SHAPES.items():
        t = weight_type("eoq4_64")
        blocks = (*shape[:-1], shape[-1] // t.width)
        arrays[f"{name}.packed"] = random.integers(0, 256, (*shape[:-1], shape[-1] // 2), dtype=np.uint8)
        arrays[f"{name}.norms"] = random.uniform(1, 2, blocks).astype(np.float16)
    save_file(arrays, tmp_path / "model.safetensors")
    stored = {t.name: t for t in read_tensor_list(tmp_path)}
    kinds = {"a": "eoq4_64", "b": "eoq4_64", "c": "eoq4t_64"}
    return [
        CodedLayer(f"{name}.weight", weight_type(kinds[name]), shape, stored[f"{name}.packed"], stored[f"{name}.norms"])
        for name, shape in SHAPES.items()
    ]


def numbered(layers: list[CodedLayer]) -> dict[str, NDArray[np.float32]]:
    """The values of each layer by its name, in one matrix."""
    numbers = RowNumbers(layers)
    return {layer.name[0]: numbers.values(i, np.arange(layer.rows)) for i, layer in enumerate(layers)}


def found_in(path: Path, arrays: Arrays, layers: list[CodedLayer]) -> dict[str, FoundRows]:
    source = open_gguf(write_gguf(path / "m.gguf", arrays))
    with RowWorkers(1) as workers:
        return find_rows(layers, RowNumbers(layers), source, SourceWeights(source, workers), Progress())


def test_whole_rows_are_found(layers: list[CodedLayer], tmp_path: Path) -> None:
    """In another order, joined, and beside weights; half floats keep every digit."""
    values = numbered(layers)
    order = np.random.default_rng(2).permutation(200)
    joined = np.concatenate([values["b"][3:], values["a"], values["b"][:3]])
    arrays: Arrays = {"x": joined.astype(np.float16), "y": values["c"][order], "z": random_weights(3, 5, 128)}
    found = found_in(tmp_path, {**arrays, "n": np.ones(128, np.float32)}, layers)
    assert set(found) == {"x", "y"} and [found[name].type.name for name in "xy"] == ["EOQ4_64", "EOQ4T_64"]
    a, b, c = (layer.read(0, layer.rows) for layer in layers)
    assert np.array_equal(found["x"].codes(layers, 0, 12), np.concatenate([b[3:], a, b[:3]]))
    assert np.array_equal(found["y"].codes(layers, 50, 70), c[order][50:70])


def test_what_is_no_whole_row_is_refused(layers: list[CodedLayer], tmp_path: Path) -> None:
    values = numbered(layers)

    def refused(message: str, **changes: NDArray[np.generic]) -> None:
        with pytest.raises(ExportError, match=message):
            found_in(tmp_path, values | changes, layers)

    missing = "has not all rows of a.weight as they are"
    a = values["a"]
    other = a[:, [*range(100), 101, 100, *range(102, 128)]]
    for changed in (a.T, a + 1, a[:, ::-1], np.delete(a, 3, axis=0), np.tile(a, 2), a[:, :64]):
        refused(missing, a=np.ascontiguousarray(changed))
    refused("joins rows that are in codes with others to a,", a=np.concatenate([a, random_weights(3, 2, 128)]))
    # the two columns of one row may be alike, of six they are not
    refused(f"{missing}|joins rows", a=np.ascontiguousarray(other))
    layers[1] = CodedLayer("b.weight", weight_type("eoq4t_64"), (2, 3, 128), layers[1].packed, layers[1].norms)
    refused(
        "a.weight and b.weight become one tensor .* of two types, eoq4_64 and eoq4t_64", a=np.vstack([a, values["b"]])
    )
