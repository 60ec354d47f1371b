"""Folders of codes: they are those of the weights, and transformers loads them to floats and to layers of codes."""

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from converter import ConversionOptions, RoundingOptions, TypeOptions, convert
from eoq_formats import EoqTensor, quantize
from eoq_formats.types import weight_type
from eoq_transformers import FormatError, model_config, quantizer
from eoq_transformers.description import PARTS
from eoq_transformers.layers import CodesBase
from gguf_files.errors import SourceError
from gguf_files.source import Source, open_gguf
from hf_export import ExportOptions, export, restore
from hf_export.errors import ExportError
from hf_export.stored_rows import as_rounded
from tests.integration.options.test_log_json import records
from tests.integration.options.tools import done, refused
from tests.samples.tiny_models import write_model
from tests.samples.tiny_sources import write_folder_and_gguf

pytestmark = pytest.mark.llama_cpp

EXPORT, RESTORE = (importlib.import_module(f"hf_export.{name}") for name in ("export", "restore"))
"""The modules, whose names in the package are those of functions."""
IDS = torch.tensor([[1, 5, 9, 77, 200, 33, 21, 8]])
Tensors = dict[str, torch.Tensor]


def nearest(type_name: str, feed_forward: str | None = None) -> ConversionOptions:
    rounding = RoundingOptions(method="nearest", awq=False)
    others = () if feed_forward is None else (f"ffn={feed_forward}",)
    return ConversionOptions(types=TypeOptions(type=type_name, tensor_types=others), rounding=rounding, threads=1)


def layers_of(folder: Path) -> dict[str, EoqTensor]:
    """The codes of a folder by layer."""
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    tensors: Tensors = {}
    for file in folder.glob("*.safetensors"):
        tensors |= load_file(file)
    return {
        name: EoqTensor(tensors[f"{name}.packed"].numpy(), tensors[f"{name}.norms"].numpy(), weight_type(kind["type"]))
        for name, kind in config["tensors"].items()
    }


def tensors_of(file: Source) -> dict[str, tuple[object, bytes]]:
    """Type, shape and bytes by name."""
    return {t.name: (t, file.rows(t, 0, t.rows).tobytes()) for t in file.tensors}


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    found: torch.Tensor = model(IDS).logits
    return found.double()


@pytest.mark.parametrize(
    ("architecture", "type_name", "feed_forward"),
    [
        ("llama", "eoq5", "eoq2t"),
        ("qwen3", "eoq4t", "eoq6"),
        ("gemma3", "eoq3_64", "eoq4t"),
        ("mixtral", "eoq2", "eoq3t"),
    ],
)
def test_a_model_goes_there_and_back(
    architecture: str, type_name: str, feed_forward: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made, gguf = tmp_path / "model", tmp_path / "made", tmp_path / "kept.gguf"

    def kept(source: Path, target: Path, *more: Any) -> None:
        convert(source, target, *more)
        shutil.copy(target, gguf)

    monkeypatch.setattr(EXPORT, "convert", kept)
    write_model(architecture, model)
    exported = export(model, made, ExportOptions(nearest(type_name, feed_forward), shard_bytes=300_000))
    restore(made, tmp_path / "back.gguf", ConversionOptions(threads=1))
    before, after = open_gguf(gguf), open_gguf(tmp_path / "back.gguf")
    assert tensors_of(after) == tensors_of(before)
    # the folder has another name, and a card
    others = ("general.name", "general.tags")
    entries = [{e.key: e.raw for e in file.metadata if e.key not in others} for file in (before, after)]
    assert entries[1] == entries[0] and {"eoq.method", "eoq.options", "eoq.checksums"} <= set(entries[0])

    weights = load_file(model / "model.safetensors")
    codes = layers_of(made)
    assert set(codes) == set(exported.types) and len(list(made.glob("model-*.safetensors"))) > 1
    for name, tensor in codes.items():
        assert tensor == quantize(weights[f"{name}.weight"], tensor.type), name
    # all matrices but routers
    assert {f"{name}.weight" for name in codes} == {
        name for name, tensor in weights.items() if tensor.ndim > 1 and not name.endswith("moe.gate.weight")
    }

    dense = AutoModelForCausalLM.from_pretrained(made)
    state = dense.state_dict()
    for name, tensor in codes.items():
        if f"{name}.weight" in state:  # version 5 has experts in one
            assert np.array_equal(state[f"{name}.weight"].numpy(), tensor.dequantize()), name
    assert not hasattr(dense.config, "quantization_config")
    packed = AutoModelForCausalLM.from_pretrained(made, config=model_config(made, dequantize=False))
    assert sum(isinstance(module, CodesBase) for module in packed.modules()) >= 10
    assert not any(isinstance(module, CodesBase) for module in dense.modules())
    # what float32 makes of the same weights is off by so much; rotation adds as many sums again
    exact = logits(AutoModelForCausalLM.from_pretrained(made, dtype=torch.float64))
    error = (logits(dense) - exact).abs().max()
    assert (logits(packed) - exact).abs().max() < 8 * error
    words = [model.generate(IDS, max_new_tokens=4, do_sample=False) for model in (dense, packed)]
    assert torch.equal(*words) and words[0].shape == (1, 12)

    packed.save_pretrained(tmp_path / "again", max_shard_size="300KB")
    assert layers_of(tmp_path / "again") == codes
    dense.save_pretrained(tmp_path / "dense")
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "dense")), logits(dense))


def test_bf16_keeps_every_bit_of_the_codes(tmp_path: Path) -> None:
    """Transformers 4 casts what it loads; the norms of float16 would lose three bits."""
    model, made = tmp_path / "model", tmp_path / "made"
    write_model("qwen2", model)
    export(model, made, ExportOptions(nearest("eoq4")))
    codes = layers_of(made)
    dense = AutoModelForCausalLM.from_pretrained(made, dtype=torch.bfloat16).state_dict()
    config = model_config(made, dequantize=False)
    packed = AutoModelForCausalLM.from_pretrained(made, config=config, dtype=torch.bfloat16).state_dict()
    for name, tensor in codes.items():
        assert torch.equal(dense[f"{name}.weight"], torch.from_numpy(tensor.dequantize()).bfloat16())
        assert EoqTensor(packed[f"{name}.packed"].numpy(), packed[f"{name}.norms"].numpy(), tensor.type) == tensor


def test_the_codes_of_a_gguf(tmp_path: Path, llama_source: Path) -> None:
    """And what is refused: a GGUF of another model, one without codes, folders that hold something, broken folders."""
    model, gguf = write_folder_and_gguf("llama", tmp_path, llama_source)
    convert(gguf, tmp_path / "llama-EOQ4.gguf", nearest("eoq4"))
    options = ExportOptions(nearest("eoq4"), tmp_path / "llama-EOQ4.gguf")
    export(model, tmp_path / "made", options)
    export(model, tmp_path / "direct", ExportOptions(nearest("eoq4")))
    for file in (tmp_path / "made").iterdir():
        if file.name != "README.md":
            assert file.read_bytes() == (tmp_path / "direct" / file.name).read_bytes(), file.name
    write_model("llama", tmp_path / "other", seed=1)
    with pytest.raises(ExportError, match=r"was not made from .*other: .*; give the folder that it was made from"):
        export(tmp_path / "other", tmp_path / "none", options)
    with pytest.raises(ExportError, match="no tensors of EOQ types"):
        export(model, tmp_path / "none", ExportOptions(gguf=gguf))
    assert not (tmp_path / "none").exists() and not list(tmp_path.glob(".eoq-*"))
    restore_it(tmp_path / "made", tmp_path / "llama-EOQ4.gguf", tmp_path / "back")
    break_it(tmp_path / "made")


def restore_it(folder: Path, before: Path, target: Path) -> None:
    """By the command, with all that can be chosen for it; what would choose other codes is refused."""
    (work := target / "work").mkdir(parents=True)
    said = refused("convert", folder, target / "m.gguf", "--type", "eoq4")
    assert f"{folder} has EOQ codes already, which go into the GGUF as they are; leave --type out" in said
    assert "leave --dry-run out" in refused("convert", folder, target / "m.gguf", "--dry-run")
    assert "is for a model of the Hugging Face Hub" in refused("convert", folder, target / "m.gguf", "--revision", "x")
    assert "--mmproj f16 is of what" in refused("convert", folder, target / "m.gguf", "--mmproj", "f16")
    options = ("--split-max-tensors", 12, "--quantized-by", "Somebody", "--work-dir", work, "--threads", 1, "--quiet")
    log = target / "log"
    said = done("convert", folder, target / "m.gguf", "--hf-option", "model-name=A Name", "--log-json", log, *options)
    files = sorted(path.name for path in target.iterdir())
    assert said == "" and files == ["log", "m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "m.report.json", "work"]
    made = open_gguf(target / files[1])
    assert tensors_of(made) == tensors_of(open_gguf(before)) and not list(work.iterdir())
    values = [made.value(key) for key in ("general.name", "general.quantized_by", "eoq.method", "general.file_type")]
    assert values == ["A Name", "Somebody", "rtn", weight_type("eoq4").id]
    assert records(log)[-1]["bytes"] == sum((target / n).stat().st_size for n in files[1:3])
    done("verify", target / files[1], "--against", before.with_name("llama.gguf"))


def break_it(folder: Path) -> None:
    """A sound folder, in several ways; each is named before any weight is made."""
    whole = (folder / "config.json").read_text()

    def refused(message: str, **changes: Any) -> None:
        config = json.loads(whole)
        config["quantization_config"] |= changes
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.MonkeyPatch.context() as patch:
            for module, name in ((quantizer, "add_codes"), (RESTORE, "write_plain")):
                patch.setattr(module, name, lambda *_: pytest.fail("a weight was made"))
            with pytest.raises(FormatError, match=message):
                AutoModelForCausalLM.from_pretrained(folder)
            if "another model" not in message:  # which transformers alone tells
                with pytest.raises(FormatError, match=message):
                    restore(folder, folder.with_name("none.gguf"))
                assert not folder.with_name("none.gguf").exists()

    layer = "model.layers.0.mlp.up_proj"
    tensors = json.loads(whole)["quantization_config"]["tensors"]
    refused("version 99", version=99)
    refused("layer.7 9 bits", tensors={"layer.7": {"type": "eoq4", "bits": 9}})
    refused("has no model.layers.9.norms|has no model.layers.9.packed", tensors={"model.layers.9": tensors[layer]})
    file = folder / "model.safetensors"
    good = file.read_bytes()
    stored = load_file(file)
    save_file({name: t for name, t in stored.items() if name != f"{layer}.norms"}, file, metadata={"format": "pt"})
    refused(f"has no {layer}.norms")
    rows = {f"{layer}.{part}": stored[f"{layer}.{part}"][:-1].contiguous() for part in PARTS[:2]}
    save_file(stored | rows, file, metadata={"format": "pt"})
    refused("the config.json is of another model")
    scales = {f"{layer}.awq_scales": torch.ones(192, dtype=torch.float16)}
    save_file(stored | scales, file, metadata={"format": "pt"})
    (folder / "config.json").write_text(whole)
    with pytest.raises(FormatError, match=rf"{layer} are scaled by {layer}.awq_scales, for which a GGUF has no place"):
        restore(folder, folder.with_name("none.gguf"))
    file.write_bytes(good[:-100])
    with pytest.raises(SourceError, match=r"model\.safetensors is cut short or damaged"):
        restore(folder, folder.with_name("none.gguf"))
    file.write_bytes(good)


def test_floats_are_rounded_as_by_pytorch() -> None:
    floats = np.array(
        [[1.00390625, 3.0e-8, -65519.0]], dtype=np.float32
    )  # between two of BF16; subnormal and last of F16
    for name, dtype in (("BF16", torch.bfloat16), ("F16", torch.float16), ("F32", torch.float32)):
        stored, data = as_rounded(floats, name)
        found = torch.frombuffer(bytearray(data), dtype=dtype)
        assert stored == name and torch.equal(found, torch.from_numpy(floats[0]).to(dtype))
    floats[0, 2] = 65520
    assert as_rounded(floats, "F16") == ("F32", floats.tobytes())
