"""Random models of several architectures: HF folder -> EOQ file -> patched llama.cpp, against transformers in F32."""

import re
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from converter import ConversionOptions, RoundingOptions, SourceAccess, TypeOptions, convert
from eoq_formats.gguf_registration import register
from tests.e2e.command import CONVERT, run
from tests.samples.tiny_models import CONFIGS, write_model

register()

PROMPTS = ("the model answers 7 questions about x", "number 12 answers 144", "questions about the model number 3")
FLOAT32_TOLERANCE = 1e-3
"""Relative error of llama.cpp in F32 beside transformers: its gelu reads a table of F16 numbers (gemma3: 4e-4)."""

EOQ_KINDS = ("eoq2", "eoq3", "eoq4", "eoq5", "eoq6")

architectures = pytest.mark.parametrize("architecture", CONFIGS)


def to_nearest(kind: str) -> ConversionOptions:
    return ConversionOptions(TypeOptions(kind), RoundingOptions("nearest", awq=False))


def throughout(kind: str, llama_source: Path | None = None) -> ConversionOptions:
    """All weights in one type."""
    return ConversionOptions(TypeOptions(tensor_types=(f".={kind}",)), source=SourceAccess(llama_dir=llama_source))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    for architecture in CONFIGS:
        write_model(architecture, root / architecture)
    return {architecture: root / architecture for architecture in CONFIGS}


def llama_cpp_logits(
    programs: Path, model: Path, prompt: str, work: Path
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Tokens of the prompt, and logits (vocabulary,) after the last one, from llama.cpp with an F32 cache."""
    exact = ("-ctk", "f32", "-ctv", "f32", "-fa", "off", "-c", "128", "-t", "2")
    run(programs / "llama-debug", "-m", model, "-p", prompt, "--save-logits", "--logits-output-dir", work, *exact)
    name = f"llamacpp-{model.stem}"
    return np.fromfile(work / f"{name}-tokens.bin", np.int32), np.fromfile(work / f"{name}.bin", np.float32)


def dequantized(model: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a GGUF by name, as float32 in row-major shape."""
    return {
        t.name: gguf.quants.dequantize(np.asarray(t.data), t.tensor_type).reshape([int(n) for n in reversed(t.shape)])
        for t in gguf.GGUFReader(model).tensors
    }


def transformers_model(folder: Path, weights: dict[str, NDArray[np.float32]]) -> transformers.PreTrainedModel:
    """The folder's model in float32, its matrices replaced by those of a GGUF."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    config = model.config
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == _gguf_architecture(config.model_type))
    names = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for hf_name, parameter in model.named_parameters():
        if parameter.ndim < 2:
            continue
        expert = re.fullmatch(r"model\.layers\.(\d+)\.block_sparse_moe\.experts\.(\d+)\.(w\d)\.weight", hf_name)
        if expert:
            layer, index, matrix = expert.groups()
            kind = {"w1": "gate", "w2": "down", "w3": "up"}[matrix]
            value = weights[f"blk.{layer}.ffn_{kind}_exps.weight"][int(index)]
        else:
            name = names.get_name(hf_name, try_suffixes=(".weight",))
            assert name is not None, hf_name
            value = weights[name]
            kind = name.split(".")[-2]
            if arch == gguf.MODEL_ARCH.LLAMA and kind in heads:
                # llama.cpp rotates neighbouring rows where transformers rotates the halves of a head
                pairs = value.reshape(heads[kind], -1, 2, value.shape[-1])
                value = np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(value.shape))
        assert value.shape == tuple(parameter.shape), hf_name
        parameter.data = torch.from_numpy(value.copy())
    return model.eval()


def _gguf_architecture(model_type: str) -> str:
    return {"mixtral": "llama", "gemma3_text": "gemma3"}.get(model_type, model_type)


def relative_error(got: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(got - true) / np.linalg.norm(true))


def transformers_logits(model: transformers.PreTrainedModel, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(torch.from_numpy(tokens[None].astype(np.int64))).logits[0, -1].numpy()
    return logits


@architectures
def test_logits_match_the_dequantised_weights(
    architecture: str, folders: dict[str, Path], programs: Path, llama_source: Path, tmp_path: Path
) -> None:
    folder = folders[architecture]
    f32 = tmp_path / f"{architecture}-f32.gguf"
    convert(folder, f32, throughout("f32", llama_source))
    tokens, logits = llama_cpp_logits(programs, f32, PROMPTS[0], tmp_path)
    original = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    from_gguf = transformers_logits(transformers_model(folder, dequantized(f32)), tokens)
    # the names map right: F32 GGUF and folder are the same model
    assert np.array_equal(transformers_logits(original, tokens), from_gguf)
    assert relative_error(logits, from_gguf) < FLOAT32_TOLERANCE

    errors = {}
    for kind in ("q8_0", *EOQ_KINDS):
        target = tmp_path / f"{architecture}-{kind}.gguf"
        convert(f32, target, throughout(kind) if kind == "q8_0" else to_nearest(kind))
        model = transformers_model(folder, dequantized(target))
        each = []
        for prompt in PROMPTS:
            tokens, logits = llama_cpp_logits(programs, target, prompt, tmp_path)
            each.append(relative_error(logits, transformers_logits(model, tokens)))
        # the median: now and then rounding noise sends a token to another expert, with Q8_0 as well
        errors[kind] = float(np.median(each))
    # what remains is the 8-bit rounding of activations, which llama.cpp's own Q8_0 has as well
    assert max(errors[kind] for kind in EOQ_KINDS) < 2 * errors["q8_0"], errors


@architectures
def test_a_folder_converts_in_one_command(
    architecture: str, folders: dict[str, Path], llama_source: Path, tmp_path: Path
) -> None:
    target, again = tmp_path / "from-folder.gguf", tmp_path / "from-gguf.gguf"
    run(*CONVERT, folders[architecture], target, "--type", "eoq4", "--rtn", "--quiet", "--llama-dir", llama_source)
    tensors = {t.name: t for t in gguf.GGUFReader(target).tensors}
    # rows of 192 and of 256
    assert {"EOQ4", "EOQ4_64"} <= {t.tensor_type.name for t in tensors.values()}

    f32 = tmp_path / "f32.gguf"
    convert(folders[architecture], f32, throughout("f32", llama_source))
    convert(f32, again, to_nearest("eoq4"))
    for tensor in gguf.GGUFReader(again).tensors:
        assert np.array_equal(tensor.data, tensors[tensor.name].data), tensor.name
