"""Every option of export_hf.py."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from eoq_formats import EoqTensor
from eoq_formats.codebooks import codebook
from eoq_formats.types import weight_type
from inspection.promised_error import FEEDBACK_MARGIN
from tests.integration.options.conftest import Place
from tests.integration.options.tools import HF_OPTIONS, HUB, REVISIONS, Effect, Walk, checks, done
from tests.unit.converter.test_rounding_method import NORM, OUTPUT, TENSORS

LAYER = "model.layers.0.self_attn"
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    NORM: "model.layers.0.input_layernorm.weight",
    OUTPUT: "lm_head.weight",
    **{name: f"{LAYER}.{part}_proj.weight" for name, part in zip(TENSORS, "qkv", strict=True)},
}


def hf_folder(place: Place) -> Path:
    """The folder that the converter in `llama_dir` makes the inputs' model of."""
    folder = place.folder / "hf"
    if not folder.exists():
        folder.mkdir()
        tensors = {NAMES[t.name]: t.data.copy() for t in GGUFReader(place.inputs.model).tensors}
        save_file(tensors, folder / "model.safetensors")
        config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def exported(place: Place, *words: object, rtn: Sequence[str] = ("--rtn",)) -> Path:
    """The folder of a run that goes well."""
    folder = place.folder / f"made{len(list(place.folder.iterdir()))}"
    done("export-hf", hf_folder(place), folder, "--llama-dir", place.inputs.llama_dir, *rtn, *words)
    return folder


def described(folder: Path) -> Any:
    return json.loads((folder / "config.json").read_text())["quantization_config"]


def bits_and_type(place: Place) -> None:
    assert [described(exported(place, *words))["bits"] for words in ((), ("--bits", 3))] == [5, 3]
    assert described(exported(place, "--type", "eoq4t"))["tensors"][f"{LAYER}.q_proj"]["type"] == "eoq4t_128"


def from_gguf(place: Place) -> None:
    gguf = place.folder / "m.gguf"
    done("convert", place.inputs.model, gguf, "--type", "eoq2", "--rtn", "--quiet")
    folder = exported(place, "--from", gguf, rtn=())
    assert described(folder)["tensors"][f"{LAYER}.k_proj"] == {"type": "eoq2", "bits": 2}


def test_scales_that_are_folded_into_a_norm_come_with_it(place: Place) -> None:
    """Norm times codes is what norm times weights was, but for rounding; either by itself is not."""
    gguf = place.folder / "m.gguf"
    awq = ("--stats", place.inputs.statistics, "--awq", "on")
    done("convert", place.inputs.model, gguf, "--type", "eoq6", *awq, "--quiet")
    made = load_file(exported(place, "--from", gguf, rtn=()) / "model.safetensors")
    source = load_file(hf_folder(place) / "model.safetensors")
    norm, layer = NAMES[NORM], f"{LAYER}.q_proj"
    before = source[f"{layer}.weight"].astype(np.float64)
    codes = EoqTensor(made[f"{layer}.packed"], made[f"{layer}.norms"], weight_type("eoq6")).dequantize()

    def error(weights: NDArray[np.floating]) -> float:
        """Relative, squared."""
        return float(np.square(weights - before).sum() / np.square(before).sum())

    assert made[norm].dtype == source[norm].dtype and not np.allclose(made[norm], source[norm], rtol=0.05)
    scales = source[norm] / made[norm]
    # eoq verify's promise is of the scaled weights; without the scales, an error counts as much as the least lets it
    promised = FEEDBACK_MARGIN * codebook(6).mse * np.square(before * scales).sum() / np.square(before).sum()
    assert error(codes / scales) < promised / np.square(scales).min() < error(codes)


def method(place: Place) -> None:
    """--rtn, --stats and --llama-bin: codes that no statistics, given ones and new ones have chosen."""
    card = (exported(place) / "README.md").read_text()
    assert "Rounded by `rtn`" in card
    given = exported(place, "--stats", place.inputs.statistics, rtn=())
    assert "feedback" in (given / "README.md").read_text()
    calls = len(place.inputs.calls)
    exported(place, "--llama-bin", place.inputs.llama_bin, rtn=())
    assert any("-o" in call for call in place.inputs.calls[calls:])


def shards(place: Place) -> None:
    folder = exported(place, "--max-shard-size", "20KB")
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    files = {file.name for file in folder.glob("*.safetensors")}
    assert len(files) > 1 and set(index["weight_map"].values()) == files
    assert sum(len(load_file(folder / file)) for file in files) == len(index["weight_map"])


def floats(place: Place) -> None:
    """What the codes stand for, in the dtype of the weights; all else as beside codes."""
    packed, dense = exported(place), exported(place, "--floats")
    codes, weights = (load_file(folder / "model.safetensors") for folder in (packed, dense))
    source = load_file(hf_folder(place) / "model.safetensors")
    assert set(weights) == set(source) and "quantization_config" not in (dense / "config.json").read_text()
    assert "eoq_transformers" in (packed / "README.md").read_text()
    assert "eoq_transformers" not in (dense / "README.md").read_text()
    for name, before in source.items():
        layer = name.removesuffix(".weight")
        if f"{layer}.packed" in codes:
            t = weight_type(described(packed)["tensors"][layer]["type"])
            wanted = EoqTensor(codes[f"{layer}.packed"], codes[f"{layer}.norms"], t).dequantize()
            assert weights[name].dtype == before.dtype
            assert np.array_equal(weights[name], wanted.astype(before.dtype)), name
        else:
            assert np.array_equal(weights[name], codes[name])


def threads(place: Place) -> None:
    used = place.threads_of("eoq_formats.kernels.set_threads", 0)
    exported(place, "--threads", 1)
    assert used and set(used) == {1}


def from_folder(place: Place) -> None:
    """--llama-dir (of all runs here), --work-dir and --hf-option."""
    work = place.folder / "work"
    work.mkdir()
    calls = len(place.inputs.calls)
    exported(place, "--work-dir", work, "--hf-option", "model-name=A Name")
    call = place.inputs.calls[calls]
    assert "--model-name=A Name" in call
    assert work in Path(call[call.index("--outfile") + 1]).parents and not list(work.iterdir())


WALK = Walk(
    "export-hf",
    {
        "--bits": bits_and_type,
        "--type": bits_and_type,
        "--from": from_gguf,
        "--rtn": method,
        "--stats": method,
        "--llama-bin": method,
        "--floats": floats,
        "--max-shard-size": shards,
        "--threads": threads,
        "--llama-dir": from_folder,
        "--work-dir": from_folder,
        "--hf-option": from_folder,
        "--revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
    },
    {
        "--type": {"eoq9": "unknown EOQ type 'eoq9'"},
        "--from": {"none": "none cannot be read"},
        "--stats": {"none/s.stats": "none of the output does not exist"},
        "--llama-bin": {"none": "none"},
        "--max-shard-size": {"1X": "--max-shard-size"},
        "--revision": REVISIONS,
        "--hf-option": {key: value for key, value in HF_OPTIONS.items() if key != "fuse-qkv"},
        "--llama-dir": {"none": "none is no llama.cpp source tree"},
        "--work-dir": {"none": "the work folder none does not exist"},
    },
    ("{hf}", "{out}/made", "--rtn"),
    {"--from": ("{hf}", "{out}/made"), "--stats": ("{hf}", "{out}/made"), "--llama-bin": ("{hf}", "{out}/made")},
)


@pytest.mark.parametrize("check", checks(WALK.effects))
def test_it_has_an_effect(check: Effect, place: Place) -> None:
    check(place)
