"""Whole models of codes in vLLM and in transformers, where vLLM is installed or on PYTHONPATH."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import eoq_transformers  # noqa: F401 — registers the format
from eoq_formats import quantize
from eoq_formats.types import WeightType
from eoq_transformers.description import describe
from tests.samples.tiny_models import write_model
from tests.unit.eoq_vllm.conftest import has_vllm

pytestmark = pytest.mark.skipif(not has_vllm(), reason="vLLM is not installed")

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("logits_of_vllm.py")
IDS = torch.tensor([1, 5, 9, 77, 200, 33, 21, 8])
TYPES = {"k_proj": "eoq5", "v_proj": "eoq6_64", "up_proj": "eoq3t"}
"""Others are EOQ4."""


def write_codes(architecture: str, folder: Path, kept: str | None) -> None:
    """A random model, all of whose matrices but `kept` are in codes."""
    write_model(architecture, folder)
    weights, types = {}, dict[str, WeightType]()
    for name, tensor in load_file(folder / "model.safetensors").items():
        layer = name.removesuffix(".weight")
        last = layer.rpartition(".")[2]
        if tensor.ndim == 1 or last == kept:
            weights[name] = tensor
            continue
        codes = quantize(tensor, TYPES.get(last, "eoq4"))
        types[layer] = codes.type
        weights |= {f"{layer}.packed": torch.from_numpy(codes.packed), f"{layer}.norms": torch.from_numpy(codes.norms)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": describe(types)}))


@torch.no_grad()
def logits(folder: Path, dtype: torch.dtype) -> torch.Tensor:
    found: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)(IDS[None]).logits[0]
    return found.double()


@pytest.mark.parametrize(
    ("architecture", "kept"),
    [("llama", None), ("qwen3", None), ("gemma", "embed_tokens")],
    ids=["names no embeddings", "ties embeddings", "has no codes of embeddings"],
)
def test_logits_are_those_of_transformers(architecture: str, kept: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    write_codes(architecture, folder, kept)
    torch.save(IDS, tmp_path / "ids.pt")
    exact = logits(folder, torch.float64)
    # what float32 makes of the same weights is off by so much; rotation adds as many sums again
    error = (logits(folder, torch.float32) - exact).abs().max()
    paths = str(ROOT), os.environ.get("PYTHONPATH")
    for way in ("floats", "codes"):
        output = tmp_path / f"{way}.pt"
        done = subprocess.run(
            [sys.executable, PROGRAM, folder, way, tmp_path / "ids.pt", output],
            env=os.environ | {"VLLM_TARGET_DEVICE": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        found = torch.load(output)[:, : exact.shape[1]].double()
        assert (found - exact).abs().max() < 8 * error, way
