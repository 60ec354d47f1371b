"""What is refused of a Hugging Face folder before llama.cpp's converter is started."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.ingest.safetensors_folder import read_tensor_list
from converter.options import ConversionOptions, TypeOptions
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


FP8 = {"a.weight": ("F8_E4M3", 1, [8, 128])}
SCALED = {**FP8, "a.weight_scale_inv": ("F32", 4, [1, 1])}
PACKED = {"a.qweight": ("I32", 4, [8, 16]), "a.scales": ("F16", 2, [1, 8])}
MODELOPT = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}}
CACHE_ALONE = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": None, "kv_cache_quant_algo": "FP8"}}


@pytest.mark.parametrize(
    ("config", "tensors", "words"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, {}, r"\(gptq, says quantization_config of config.json\)"),
        (
            {"text_config": {"quantization_config": {"quant_method": "fp8"}}},
            {},
            r"says text_config.quantization_config",
        ),
        ({"hf_quant_config": MODELOPT}, {}, r"\(modelopt, says hf_quant_config.json\)"),
        ({"hf_quant_config": CACHE_ALONE}, FP8, r"\(modelopt, says hf_quant_config.json\)"),
        ({}, FP8, r"\(F8_E4M3, by the type of a.weight\)"),
    ],
)
def test_a_quantised_model_needs_permission_wherever_it_says_so(
    config: dict[str, Any], tensors: dict[str, tuple[str, int, list[int]]], words: str, model: Path
) -> None:
    if other := config.pop("hf_quant_config", None):
        (model / "hf_quant_config.json").write_text(json.dumps(other))
    write_config(model, **config)
    if tensors:
        write_raw(model / "model.safetensors", tensors)
    with pytest.raises(
        QuantizedSourceError, match=rf"{words}.*; convert the original model, or pass --allow-requantize$"
    ):
        read(model)
    assert read_hf_folder(model, allow_requantize=True).tensors


def test_the_way_back_is_named_for_codes_of_eoq(model: Path) -> None:
    write_config(model, quantization_config={"quant_method": "eoq"})
    with pytest.raises(QuantizedSourceError, match=rf"; eoq convert {model} OUT.gguf, .*, makes a GGUF of its codes$"):
        read(model)


@pytest.mark.parametrize("method", ["bitsandbytes", "awq", "torchao"])
def test_no_way_out_is_named_where_there_is_none(method: str, model: Path) -> None:
    write_config(model, quantization_config={"quant_method": method})
    with pytest.raises(QuantizedSourceError, match=r"; convert the original model; .* cannot unpack this kind$"):
        read(model)


def test_a_configuration_that_the_converter_does_not_read(model: Path) -> None:
    for place in ("compression_config", "other.quantization_config"):
        config: dict[str, Any] = {"quant_method": "compressed-tensors"}
        for key in reversed(place.split(".")):
            config = {key: config}
        write_config(model, **config)
        with pytest.raises(QuantizedSourceError, match=rf"says {place} of .*; nothing that .* reads says how"):
            read(model)


@pytest.mark.parametrize("tensors", [SCALED, PACKED])
def test_packed_weights_that_no_configuration_tells_of(
    tensors: dict[str, tuple[str, int, list[int]]], model: Path
) -> None:
    write_raw(model / "model.safetensors", tensors)
    with pytest.raises(QuantizedSourceError, match=r"nothing that .* reads says how to unpack the weights$"):
        read(model)


def test_mxfp4_may_stay(model: Path) -> None:
    write_config(model, quantization_config={"quant_method": "mxfp4"})
    with pytest.raises(QuantizedSourceError, match=r"with --tensor-type exps=mxfp4, or pass --allow-requantize$"):
        read(model)
    assert read_hf_folder(model, allow_requantize=False, keeps_mxfp4=True).tensors
    for types, keeps in ((("exps=mxfp4",), True), (("exps=q8_0",), False)):
        assert ConversionOptions(TypeOptions(tensor_types=types)).source_access.keeps_mxfp4 == keeps


def test_what_is_not_quantised(model: Path) -> None:
    """A cache of keys and values, integers that are tables, masks and counts, and an empty configuration."""
    (model / "hf_quant_config.json").write_text(json.dumps(CACHE_ALONE))
    write_config(model, quantization_config=None)
    tables = {
        "a.weight": ("BF16", 2, [80, 128]),
        "position_ids": ("I64", 8, [1, 512]),
        "attn.bias": ("U8", 1, [1, 1, 32, 32]),
        "gate.tid2eid": ("I32", 4, [8, 4]),
    }
    write_raw(model / "model.safetensors", {**tables})
    assert len(read(model).tensors) == 4


def test_an_adapter_says_of_which_model(model: Path) -> None:
    adapter = model / "adapter_config.json"
    adapter.write_text(json.dumps({"base_model_name_or_path": "org/base", "peft_type": "LORA"}))
    (model / "model.safetensors").rename(model / "adapter_model.safetensors")
    words = r"is an adapter .* of org/base, and no model by itself; merge it into that model"
    with pytest.raises(SourceError, match=words):  # some have their base's config.json
        read(model)
    (model / "config.json").unlink()
    with pytest.raises(SourceError, match=words):
        read(model)
    adapter.write_text("{}")
    with pytest.raises(SourceError, match=r"of a model that it does not name, and"):
        read(model)


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_without_the_output_that_it_says_it_has(nested: bool, model: Path) -> None:
    table = np.zeros((50, 128), dtype=np.float32)
    vocabulary: dict[str, Any] = {"vocab_size": 50, "tie_word_embeddings": False}

    def write(more: dict[str, Any], **tensors: NDArray[np.float32]) -> None:
        write_config(model, **({"text_config": more} if nested else more))
        save_file({"model.embed_tokens.weight": table, "a.weight": MATRIX, **tensors}, model / "model.safetensors")

    write(vocabulary)
    with pytest.raises(SourceError, match=r"lacks its output matrix: .* model.embed_tokens.weight is the only matrix"):
        read(model)
    for change in ({"tie_word_embeddings": True}, {"tie_word_embeddings": None}, {"vocab_size": 48}):
        write({**vocabulary, **change})
        read(model)
    write(vocabulary, **{"lm_head.weight": table})
    read(model)
    write_config(model, architectures=["LlamaModel"], **vocabulary)  # which embeds texts
    read(model)


@pytest.mark.parametrize("has_index", [True, False])
def test_a_tensor_in_two_shards(has_index: bool, model: Path) -> None:
    paths = write_shards(model, index=has_index)
    save_file({"1.weight": MATRIX, "0.weight": MATRIX}, paths[1])
    assert [t.name for t in read(model).tensors] == ["0.weight", "1.weight"]
    save_file({"1.weight": MATRIX, "0.weight": MATRIX + 1}, paths[1])
    with pytest.raises(SourceError, match=rf"0.weight stands in {paths[0]} and in {paths[1]} with different values"):
        read(model)


@pytest.mark.parametrize("has_index", [True, False])
@pytest.mark.parametrize("other", [MATRIX + 1, MATRIX[:4], MATRIX.astype(np.float16)])
def test_a_whole_model_of_other_weights_beside_shards(other: NDArray[np.generic], has_index: bool, model: Path) -> None:
    paths = write_shards(model, index=has_index)
    whole = model / "model.safetensors"
    save_file({"0.weight": MATRIX, "1.weight": MATRIX}, whole)
    assert len(read(model).tensors) == 2
    save_file({"0.weight": MATRIX, "1.weight": other}, whole)
    with pytest.raises(SourceError, match=r"1.weight stands in .* with different values; remove") as error:
        read(model)
    assert str(paths[1]) in str(error.value) and str(whole) in str(error.value)


def test_heads_are_taken_and_refused_as_the_library_does(model: Path) -> None:
    """Any byte of the head changed to any other, at random."""
    path = model / "model.safetensors"
    sound = path.read_bytes()
    (length,) = struct.unpack_from("<Q", sound)
    random = np.random.default_rng(1)
    taken = 0
    for _ in range(400):
        damaged = bytearray(sound)
        damaged[int(random.integers(8 + length))] = int(random.choice(list(b'0123456789",:[]{}FI \0x')))
        path.write_bytes(damaged)
        try:
            with safe_open(path, framework="numpy") as file:
                slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
                expected = {(name, s.get_dtype(), tuple(s.get_shape())) for name, s in slices.items()}
        except SafetensorError:
            with pytest.raises(SourceError, match="cut short or damaged"):
                read_tensor_list(model)
        else:
            taken += 1
            assert {(t.name, t.dtype, t.shape) for t in read_tensor_list(model)} == expected
    assert 20 < taken < 380


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
    assert read_hf_folder(model, allow_requantize=True).outtype == outtype


@pytest.mark.parametrize(("dtype", "outtype"), [("bfloat16", "bf16"), ("float32", "f32"), (None, "f32")])
def test_pytorch_files_go_by_the_config(model: Path, dtype: str | None, outtype: str) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    write_config(model, torch_dtype=dtype)
    assert read(model).outtype == outtype
