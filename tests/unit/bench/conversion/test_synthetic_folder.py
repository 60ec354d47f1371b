"""The folder is what a model's folder is, whatever the size of its shards."""

from pathlib import Path

import pytest
from safetensors import safe_open

from bench.conversion.synthetic_folder import FolderShape, write_folder
from bench.errors import BenchError
from converter.ingest.hf_folder import read_hf_folder

SMALL = FolderShape(2, 128, 192, 300)


def test_the_usual_shape_is_that_of_7b() -> None:
    assert 13e9 < FolderShape().nbytes < 14e9


@pytest.mark.parametrize(("shard_bytes", "shards"), [(1, 21), (300_000, 3), (10**9, 1)])
def test_shards(shard_bytes: int, shards: int, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_folder(SMALL, folder, shard_bytes)
    files = sorted(folder.glob("*.safetensors"))
    assert len(files) == shards
    read = read_hf_folder(folder, allow_requantize=False)
    assert sorted((t.name, t.shape) for t in read.tensors) == sorted(SMALL.tensors())
    assert read.outtype == "f16" and read.stored_bytes - SMALL.nbytes < 4000 * shards
    for path in files:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                values = file.get_tensor(name).astype("float32")
                assert values.ndim == 1 or 0.018 < values.std() < 0.022


@pytest.mark.parametrize("sizes", [{"layers": 0}, {"hidden": 100}, {"vocabulary": 10}, {"feed_forward": 0}])
def test_sizes_that_make_no_model(sizes: dict[str, int]) -> None:
    with pytest.raises(BenchError, match=r"must be|needs"):
        FolderShape(**sizes)
