"""What is refused of a Hugging Face folder before llama.cpp's converter is started."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.options import TypeOptions
from gguf_files.errors import QuantizedSourceError, SourceError

MATRIX = np.zeros((8, 128), dtype=np.float32)


def write_config(folder: Path, **more: Any) -> None:
    (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **more}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_config(folder)
    save_file({"a.weight": MATRIX, "norm.weight": MATRIX[0]}, folder / "model.safetensors")
    return folder


def write_shards(folder: Path, count: int = 2, index: bool = True) -> list[Path]:
    (folder / "model.safetensors").unlink()
    paths = [folder / f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    for i, path in enumerate(paths):
        save_file({f"{i}.weight": MATRIX}, path)
    if index:
        weight_map = {f"{i}.weight": path.name for i, path in enumerate(paths)}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return paths


def write_raw(path: Path, dtypes: dict[str, tuple[str, int, list[int]]]) -> None:
    """A safetensors file of zeros: name to dtype, bytes a value, shape. NumPy has no bfloat16."""
    header, offset = {}, 0
    for name, (dtype, size, shape) in dtypes.items():
        end = offset + size * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))


def read(folder: Path) -> HfFolder:
    return read_hf_folder(folder, allow_requantize=False)


def test_a_good_folder(model: Path) -> None:
    folder = read(model)
    assert {(t.name, t.dtype, t.shape) for t in folder.tensors} == {
        ("a.weight", "F32", (8, 128)),
        ("norm.weight", "F32", (128,)),
    }
    assert folder.gguf_bytes == 4 * 9 * 128
    assert folder.stored_bytes == (model / "model.safetensors").stat().st_size
    assert folder.weights == 9 * 128
    assert 0 < folder.weights * TypeOptions("eoq2").least_bits_per_weight / 8 < 4 * 9 * 128 / 8


@pytest.mark.parametrize("index", [True, False])
def test_shards(model: Path, index: bool) -> None:
    write_shards(model, index=index)
    assert {t.name for t in read(model).tensors} == {"0.weight", "1.weight"}


@pytest.mark.parametrize("index", [True, False])
def test_a_missing_shard(model: Path, index: bool) -> None:
    write_shards(model, 3, index)[1].unlink()
    with pytest.raises(SourceError, match="incomplete"):
        read(model)


def test_a_shard_without_its_tensor(model: Path) -> None:
    paths = write_shards(model)
    save_file({"other": MATRIX}, paths[1])
    with pytest.raises(SourceError, match=r"lacks the tensor 1.weight"):
        read(model)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"weight_map": 3}'])
def test_a_damaged_index(model: Path, text: str) -> None:
    (model / "model.safetensors.index.json").write_text(text)
    with pytest.raises(SourceError, match="damaged"):
        read(model)


def test_an_index_that_points_elsewhere(model: Path) -> None:
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../etc/passwd"}}))
    with pytest.raises(SourceError, match=r"no \.safetensors file in its folder"):
        read(model)


@pytest.mark.parametrize("keep", [0, 4, 8, 50, -1])
def test_safetensors_cut_short(model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(SourceError, match=r"model\.safetensors is cut short or damaged"):
        read(model)


def test_safetensors_with_a_damaged_head(model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:8] + b"x" + path.read_bytes()[9:])
    with pytest.raises(SourceError, match="damaged"):
        read(model)


def test_a_git_lfs_pointer_is_recognised(model: Path) -> None:
    (model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(SourceError, match="git lfs pull"):
        read(model)


def test_no_weights(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="has no weights"):
        read(model)


def test_no_config(model: Path) -> None:
    (model / "config.json").unlink()
    with pytest.raises(SourceError, match=r"no config.json$"):
        read(model)
    (model / "m.gguf").touch()
    with pytest.raises(SourceError, match=r"did you mean .*m\.gguf"):
        read(model)


@pytest.mark.parametrize(("text", "message"), [("{", "not JSON"), ("[]", "not a JSON object"), ("{}", "architecture")])
def test_damaged_config(model: Path, text: str, message: str) -> None:
    (model / "config.json").write_text(text)
    with pytest.raises(SourceError, match=message):
        read(model)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is empty"):
        read(tmp_path)


def test_a_quantised_model_needs_permission(model: Path) -> None:
    write_config(model, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(QuantizedSourceError, match=r"gptq.*--allow-requantize"):
        read(model)
    assert read_hf_folder(model, allow_requantize=True).tensors


@pytest.mark.parametrize(
    ("tensors", "outtype"),
    [
        ({"a": ("BF16", 2, [8, 128]), "norm": ("F32", 4, [128])}, "bf16"),
        ({"a": ("F16", 2, [8, 128])}, "f16"),
        ({"a": ("F32", 4, [8, 128])}, "f32"),
        ({"a": ("BF16", 2, [8, 128]), "b": ("F32", 4, [8, 128])}, "f32"),
        ({"a": ("BF16", 2, [8, 128]), "b": ("F16", 2, [8, 128])}, "f32"),
        ({"a": ("BF16", 2, [80, 1280]), "router": ("F32", 4, [4, 128])}, "bf16"),
        ({"a": ("F32", 4, [80, 1280]), "position_ids": ("I64", 8, [1, 512])}, "f32"),
        ({"a": ("F8_E4M3", 1, [8, 128])}, "bf16"),
        ({"qweight": ("I32", 4, [8, 128]), "b": ("F16", 2, [8, 128])}, "auto"),
    ],
)
def test_no_precision_is_lost_on_the_way(
    tensors: dict[str, tuple[str, int, list[int]]], outtype: str, model: Path
) -> None:
    write_raw(model / "model.safetensors", tensors)
    assert read(model).outtype == outtype


@pytest.mark.parametrize(("dtype", "outtype"), [("bfloat16", "bf16"), ("float32", "f32"), (None, "f32")])
def test_pytorch_files_go_by_the_config(model: Path, dtype: str | None, outtype: str) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    write_config(model, torch_dtype=dtype)
    assert read(model).outtype == outtype
