"""FastEWQ: its data, the shapes it knows models by, and what it predicts."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.quality.fastewq_comparison import (
    PAPER_ACCURACY,
    by_model,
    by_row,
    check_enough,
    importances,
    majority,
    reproduced,
)
from converter.errors import OptionError
from converter.options import TypeOptions
from converter.plan import resolve_plan
from converter.plan.planners import ewq
from converter.plan.planners.fastewq import (
    BlockShape,
    FastEwq,
    blocks_of_config,
    blocks_of_model,
    read_dataset,
    write_dataset,
)
from converter.plan.planners.fastewq.classifier import propose_fast
from converter.plan.planners.fastewq.dataset import Dataset
from converter.plan.planners.fastewq.measured import measured_rows
from converter.plan.precision_levels import LevelTable
from gguf_files.errors import QuantizedSourceError
from gguf_files.source import open_gguf
from gguf_files.tensor_types import type_name
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf
from tests.samples.tiny_models import CONFIGS
from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[5]

LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32,
}  # fmt: skip
QWEN2_7B = {
    "model_type": "qwen2", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
    "num_key_value_heads": 4, "num_hidden_layers": 28,
}  # fmt: skip
GEMMA2_9B = {
    "model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_attention_heads": 16,
    "num_key_value_heads": 8, "head_dim": 256, "num_hidden_layers": 42,
}  # fmt: skip
STABLELM = {
    "model_type": "stablelm", "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
    "num_key_value_heads": 32, "num_hidden_layers": 24, "use_qkv_bias": True,
}  # fmt: skip
GEMMA_7B = {
    "model_type": "gemma", "hidden_size": 3072, "intermediate_size": 24576, "num_attention_heads": 16,
    "num_key_value_heads": 16, "head_dim": 256, "num_hidden_layers": 28,
}  # fmt: skip
PHI35 = {
    "model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_attention_heads": 32,
    "num_key_value_heads": 32, "num_hidden_layers": 32,
}  # fmt: skip


def write_config(folder: Path, config: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


@pytest.mark.parametrize(
    ("config", "parameters"),
    [
        (LLAMA_8B, 218_112_000),
        (QWEN2_7B, 233_057_792),
        (GEMMA2_9B, 198_195_200),
        (STABLELM, 51_394_560),
        (GEMMA_7B, 276_830_208),
        (PHI35, 113_252_352),
    ],
)
def test_parameters_are_those_of_the_paper(tmp_path: Path, config: dict[str, Any], parameters: int) -> None:
    blocks = blocks_of_config(write_config(tmp_path, config))
    assert [b.name for b in blocks] == [f"blk.{i}" for i in range(config["num_hidden_layers"])]
    assert {b.parameters for b in blocks} == {parameters}


@pytest.mark.parametrize("architecture", [a for a in CONFIGS if a not in ("bert", "minilm", "nomic-bert")])
def test_parameters_are_those_that_transformers_makes(architecture: str, tmp_path: Path) -> None:
    import transformers

    config = CONFIGS[architecture]()
    if config.model_type in ("bert", "roberta", "distilbert"):
        pytest.skip("an encoder")
    model = transformers.AutoModelForCausalLM.from_config(config)
    config.save_pretrained(tmp_path)
    layers = getattr(model.get_decoder(), "layers", None)
    assert layers is not None
    real = [sum(p.numel() for p in layer.parameters()) for layer in layers]
    assert [b.parameters for b in blocks_of_config(tmp_path / "config.json")] == real


def test_configurations_that_do_not_do(tmp_path: Path) -> None:
    for config, message in (
        ({"model_type": "deepseek_v2"}, "deepseek_v2 blocks are not known"),
        ({"model_type": "llama"}, "lacks a size"),
        ([], "no table of a model's sizes"),
    ):
        with pytest.raises(OptionError, match=message):
            blocks_of_config(write_config(tmp_path, config))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(OptionError, match="is not JSON"):
        blocks_of_config(tmp_path / "config.json")
    with pytest.raises(OptionError, match="cannot be read"):
        blocks_of_config(tmp_path / "none.json")


def test_the_data_set_is_what_the_paper_prints() -> None:
    dataset = read_dataset()
    counts = {source: len(dataset.only(source).rows) for source in ("table 2", "table 8")}
    assert counts == {"table 2": 17, "table 8": 32 + 28 + 42 + 32} and sum(counts.values()) == len(dataset.rows)
    quantised: dict[str, int] = {}
    for row in dataset.only("table 8").rows:
        quantised[row.model_name] = quantised.get(row.model_name, 0) + row.quantized
    # its table of results: 13, 13, 17 and 16 blocks
    assert list(quantised.values()) == [13, 13, 17, 16]
    # both tables agree where they have the same block
    by_place = {(r.model_name, r.exec_index): r for r in dataset.only("table 8").rows}
    shared = [
        (r, by_place[key]) for r in dataset.only("table 2").rows if (key := (r.model_name, r.exec_index)) in by_place
    ]
    assert len(shared) == 3
    assert all(a.quantized == b.quantized for a, b in shared)


def test_trained_on_everything_it_gives_back_its_rows() -> None:
    dataset = read_dataset()
    predicted = FastEwq(dataset).predict(dataset.only("table 8").features)
    assert (predicted == dataset.only("table 8").labels).mean() >= 0.95
    assert reproduced(dataset) >= 0.95


def test_the_comparison_is_reproducible_and_complete() -> None:
    dataset = read_dataset()
    rows, models = by_row(dataset), by_model(dataset)
    assert list(rows) == list(models) == list(PAPER_ACCURACY)
    for scores in (rows, models):
        for score in scores.values():
            assert sum(score.confusion) == len(dataset.rows)
            tn, fn, _, tp = score.confusion
            assert score.accuracy == pytest.approx((tn + tp) / len(dataset.rows))
            assert score.recall == pytest.approx(tp / (tp + fn))
            assert 0 <= score.auc <= 1 and score.roc[0][-1] == score.roc[1][-1] == 1
    # neighbours of a block are known when rows are left out, and nothing of its model when models are
    assert rows["random forest"].accuracy > majority(dataset)
    assert rows["random forest"].accuracy > models["random forest"].accuracy
    assert by_row(dataset)["random forest"].confusion == rows["random forest"].confusion
    shares = importances(dataset)
    assert max(shares, key=lambda name: shares[name]) == "exec_index"
    assert sum(shares.values()) == pytest.approx(1)


def test_levels_and_proposals() -> None:
    blocks = [BlockShape(f"blk.{i}", 218_112_000) for i in range(32)]
    fast = FastEwq(read_dataset())
    levels = fast.levels(blocks)
    picked = [i + 2 for i, level in enumerate(levels) if level == "8bit"]
    assert picked == sorted([33, 13, 17, 16, 14, 15, 2, 19, 18, 32, 3, 11, 9])
    mixed = fast.levels(blocks, "4bit/8bit", four_bit=2)
    assert [i + 2 for i, level in enumerate(mixed) if level == "4bit"] == [32, 33]
    assert [level != "raw" for level in mixed] == [level != "raw" for level in levels]
    assert fast.levels(blocks, "4bit/8bit", four_bit=0) == levels
    with pytest.raises(OptionError, match="no FastEWQ variant"):
        fast.levels(blocks, "2bit")


def test_from_a_gguf_to_a_plan(tmp_path: Path) -> None:
    model = open_gguf(write_gguf(tmp_path / "m.gguf", tiny_model()))
    blocks = blocks_of_model(model)
    assert blocks == [BlockShape("blk.0", sum(t.weights for t in model.tensors if t.name.startswith("blk.0.")))]
    proposals = propose_fast(blocks, ["4bit"], LevelTable())
    plan = resolve_plan(model.tensors, "llama", TypeOptions("eoq6"), proposals)
    types = {t.tensor.name: type_name(t.type) for t in plan.tensors}
    assert types["blk.0.ffn_down.weight"] == "eoq4" and types["token_embd.weight"] == "eoq6"
    nothing = open_gguf(write_gguf(tmp_path / "n.gguf", {"token_embd.weight": random_weights(1, 4, 64)}))
    with pytest.raises(OptionError, match="no blocks"):
        blocks_of_model(nothing)


def test_rows_of_a_model_at_hand(tmp_path: Path) -> None:
    model = open_gguf(write_gguf(tmp_path / "m.gguf", tiny_model()))
    blocks = ewq.measure(model)
    (row,) = measured_rows(model, tmp_path / "m.gguf", blocks, ewq.decide([b.entropy for b in blocks]))
    assert (row.model_name, row.num_blocks, row.exec_index, row.quantized) == ("m", 1, 2, True)
    dataset = read_dataset().with_model([row])
    write_dataset(dataset, tmp_path / "blocks.csv")
    assert read_dataset(tmp_path / "blocks.csv") == dataset
    assert dataset.with_model([row]) == dataset
    from gguf import GGMLQuantizationType as T

    from tests.samples.gguf_samples import as_type

    rounded = {"blk.0.ffn_up.weight": as_type(random_weights(1, 4, 64), T.Q8_0)}
    quantised = open_gguf(write_gguf(tmp_path / "q.gguf", rounded))
    with pytest.raises(QuantizedSourceError, match="give the original"):
        measured_rows(quantised, tmp_path, blocks, ewq.decide([1.0]))


HEAD = "model_name,num_blocks,exec_index,num_parameters,quantization_type,quantized,source\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_name\nx\n", "line 2"),
        (
            "model_name,num_blocks,exec_index,num_parameters,quantization_type,quantized,source\na,1,2,3,8bit,0,x\n",
            "line 2",
        ),
        (
            "model_name,num_blocks,exec_index,num_parameters,quantization_type,quantized,source\na,1,2,3,raw,0,x\n",
            "both kinds",
        ),
    ],
)
def test_damaged_data_sets(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "blocks.csv").write_text(text)
    with pytest.raises(OptionError, match=message):
        read_dataset(tmp_path / "blocks.csv")


@pytest.mark.parametrize("content", [HEAD.encode() + b"\xff\xfe,1,2", HEAD.encode() + b'"' + b"x" * 200_000 + b'"'])
def test_data_sets_that_are_no_text(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "blocks.csv").write_bytes(content)
    with pytest.raises(OptionError, match=r"blocks\.csv is not (CSV|UTF-8)"):
        read_dataset(tmp_path / "blocks.csv")


def test_a_comparison_needs_blocks_of_both_kinds_in_every_fold() -> None:
    rows = read_dataset().rows
    quantised, whole = ([row for row in rows if row.quantized == kind] for kind in (True, False))
    with pytest.raises(OptionError, match="the data set has 9"):
        check_enough(Dataset((*quantised, *whole[:9])))
    alone = [replace(row, model_name="alone") for row in whole]
    with pytest.raises(OptionError, match="all blocks of one kind are of alone"):
        check_enough(Dataset((*quantised, *alone)))
    check_enough(read_dataset())


def test_a_plan_from_a_configuration_needs_no_torch(tmp_path: Path) -> None:
    config, plan = write_config(tmp_path, LLAMA_8B), tmp_path / "plan.json"
    code = (
        "import runpy, sys; sys.argv = ['plan_eoq.py', *sys.argv[1:]]\n"
        "runpy.run_path('tools/plan_eoq.py', run_name='__main__')\n"
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", code, str(config), "--planner", "fastewq", "--json", str(plan)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    rules = json.loads(plan.read_text())["rules"]
    assert len(rules) == 32 and rules[0] == {
        "match": r"^blk\.0\.", "type": "q8_0", "why": "8bit: FastEWQ, block 2 of 32, 218,112,000 parameters",
    }  # fmt: skip
    assert np.count_nonzero([rule["type"] == "q8_0" for rule in rules]) == 13
    refused = subprocess.run(
        [sys.executable, "tools/plan_eoq.py", str(config), "--planner", "fastewq", "--plot", str(tmp_path / "x.png")],
        capture_output=True, text=True, cwd=ROOT, timeout=LONGEST,
    )  # fmt: skip
    assert refused.returncode == 1 and "give its GGUF" in refused.stderr
