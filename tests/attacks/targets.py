"""Readers of strangers' files, each with valid files and what is done with one: the targets of fuzzing."""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gguf import GGMLQuantizationType

from converter.checkpoint import TensorJournal
from converter.checkpoint.work_folder import read_facts
from converter.ingest.hf_folder import read_hf_folder
from converter.options import TypeOptions
from converter.plan import TensorPlan, read_plan_file, resolve_plan
from converter.plan.planners.fastewq.blocks import blocks_of_config
from converter.plan.planners.fastewq.dataset import DATASET, read_dataset
from converter.report import TensorRecord
from converter.rounding import WeightedError, row_chunks
from converter.statistics import open_statistics, table_lines
from eoq_formats.errors import EoqError
from eoq_formats.types import weight_type
from eoq_transformers.checkpoint import folder_paths, read_heads
from eoq_transformers.description import (
    Recorded,
    check_codes,
    describe,
    read_description,
    read_float_names,
    read_recorded,
)
from evaluation.mmlu import read_questions
from evaluation.mmlu.results_file import read_results
from gguf_files.source import open_gguf
from gguf_files.tensors import TensorInfo
from hf_export.coded_folder import read_coded_folder
from input_files.structured import read_json
from terminal.text import message
from tests.attacks.statistics_files import imatrix, layout, model, statistics, tensors
from tests.samples.gguf_bytes import TEXT, U32, Tensor, array, entry, gguf

VOCABULARY = [
    entry("general.architecture", TEXT, "llama"),
    entry("general.alignment", U32, 32),
    array("tokenizer.ggml.tokens", TEXT, ["a", "b"]),
    array("tokenizer.ggml.scores", U32, [1, 2]).replace(struct.pack("<I", U32), struct.pack("<I", 6)),
]
MODELS = [model(), gguf(VOCABULARY, [Tensor("blk.0.attn_q.weight", (64, 2)), Tensor("output_norm.weight", (64,))])]
STATISTICS = [
    statistics(),
    statistics([layout(row_length=4, experts=3)], tensors(4, 3), notes='["a note"]'),
    statistics([layout(row_length=4, experts=3, shared=True)], tensors(4)),
]
IMATRICES = [imatrix(), imatrix(shape=(4, 3), counts_shape=(1, 3))]
PLANS = [
    json.dumps(
        {
            "format": "eoq-plan",
            "version": 1,
            "planner": "x",
            "rules": [{"match": "ffn_(up|down)", "type": "eoq4", "why": "w"}],
            "tensors": {"blk.0.attn_q.weight": {"type": "eoq5"}, "b": "raw"},
        }
    ).encode()
]
PLANS_IN_TOML = [
    b'format = "eoq-plan"\nversion = 1\n[[rules]]\nmatch = "ffn"\ntype = "eoq4"\n'
    b'[tensors]\n"blk.0" = "raw"\nb = {type = "eoq5"}\n'
]
SIZES = {
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_local_experts": 4,
    "mlp_only_layers": [1],
}
CONFIGURATIONS = [
    json.dumps(SIZES | {"architectures": ["A"], "model_type": "qwen2_moe", "torch_dtype": "float16"}).encode(),
    json.dumps({"architectures": ["A"], "text_config": SIZES | {"model_type": "llama"}}).encode(),
]
INDEXES = [b'{"metadata": {"total_size": 4}, "weight_map": {"a": "model.safetensors", "b": "model.safetensors"}}']
HEAD = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2,2],"data_offsets":[4,20]}}'
WEIGHTS = [struct.pack("<Q", len(HEAD)) + HEAD + bytes(20)]
FACTS = [b'{"conversion": {"--type": "eoq4", "--work-dir": "/tmp"}, "statistics": {"s.stats": "3 bytes"}}\n']
JOURNALED = TensorPlan(TensorInfo("a", (64, 2), GGMLQuantizationType.F32), GGMLQuantizationType.Q8_0, "")
FIGURES = TensorRecord(JOURNALED, 1.5, 0.25, 3.0, weighted=WeightedError(1.0, 2.0, 3.0, 4.0), notes=("a note",)).figures
JOURNALS = [json.dumps({"name": "a", "crc32": 7, "figures": FIGURES}).encode() + b"\n"]
QUESTIONS = [b'"What, then?",1,2,3,4,A\nWhy,"a ""b""",2,3,4,D\n']

ANSWERS = [
    b'{"shots": 0, "prompts_sha256": "00", "questions": [{"subject": "a", "answer": 1, "picked": null, '
    b'"probabilities": [0.25, 0.25, 0.25, 0.25]}, {"subject": "a", "answer": 0, "picked": 3, '
    b'"probabilities": [0.0, 1e-9, 0, 1]}]}'
]
CODED = {"a": weight_type("eoq2"), "b": weight_type("eoq4t_64")}
RECORDED: dict[str, Recorded] = {"eoq.method": "rtn", "eoq.options": ("--rtn",), "general.file_type": 162}
DESCRIPTIONS = [json.dumps({"quantization_config": describe(CODED, ("b",), RECORDED)}).encode()]
CODES_HEAD = (
    b'{"a.packed":{"dtype":"U8","shape":[1,32],"data_offsets":[0,32]},'
    b'"a.norms":{"dtype":"F16","shape":[1,1],"data_offsets":[32,34]}}      '
)
CODES = [struct.pack("<Q", len(CODES_HEAD)) + CODES_HEAD + bytes(34)]


@dataclass(frozen=True)
class Target:
    """A reader."""

    valid: list[bytes]
    """Files that it reads."""
    name: str
    """Of the file, in a folder that `restore` has made."""
    read: Callable[[Path], object]
    """Reads a file and does with it what its users do. Raises EoqError, and nothing else."""


def restore(folder: Path) -> None:
    """Make in `model` a sound Hugging Face model, as far as it is looked at before it is converted."""
    (folder / "model").mkdir(exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "quantization_config": describe({"a": CODED["a"]})}
    (folder / "model" / "config.json").write_text(json.dumps(config))
    (folder / "model" / "model.safetensors").write_bytes(WEIGHTS[0])
    (folder / "model" / "model.safetensors.index.json").unlink(missing_ok=True)


def attack(folder: Path, target: Target, data: bytes) -> bool:
    """Give a reader a file: whether it takes it. What it raises but EoqError goes on to the caller."""
    path = folder / target.name
    path.write_bytes(data)
    try:
        target.read(path)
    except EoqError as error:
        assert message(str(error)).isprintable()
        return False
    return True


def use_model(path: Path) -> None:
    source = open_gguf(path)
    plan = resolve_plan(source.tensors, source.architecture, TypeOptions())
    for tensor in source.tensors:
        for start, stop in row_chunks(tensor):
            source.rows(tensor, start, stop).sum()
    assert plan.nbytes >= 0


def use_statistics(path: Path) -> None:
    found = open_statistics(path)
    assert "".join(table_lines(found))
    for name in found.tensor_names:
        for expert in range(len(found.counts(name))):
            found.for_rounding(name, expert)


def use_plan(path: Path) -> None:
    proposals = read_plan_file(path)
    assert len(proposals.digest) == 12
    assert all(rule.matches("blk.0.ffn_up.weight") in (True, False) for rule in proposals.rules)


def use_folder(path: Path) -> None:
    read_hf_folder(path.parent, allow_requantize=True)


def use_facts(path: Path) -> None:
    assert all(isinstance(text, str) for facts in read_facts(path).values() for text in facts.values())


def use_journal(path: Path) -> None:
    found = TensorJournal(path, lambda: None).read([JOURNALED])
    assert all(0 <= tensor.checksum < 1 << 32 and tensor.record.error_db != 0.5 for tensor in found.values())


def use_description(path: Path) -> None:
    content = read_json(path, EoqError)
    described = content.get("quantization_config") if isinstance(content, dict) else None
    described = described if isinstance(described, dict) else {}
    assert all(t.bits in range(2, 7) for t in read_description(described).values())
    assert all(name for name in read_float_names(described).values())
    json.dumps(read_recorded(described), ensure_ascii=False).encode()


def use_codes(path: Path) -> None:
    checkpoint = read_heads(folder_paths(path.parent))
    found = check_codes({"a": CODED["a"]}, checkpoint.stored)
    (layer,) = read_coded_folder(path.parent).layers
    assert layer.read(0, layer.rows).nbytes == found["a"].nbytes
    assert checkpoint.read("a.packed").numel() == found["a"].nbytes - checkpoint.read("a.norms").numel() * 2


TARGETS: dict[str, Target] = {
    "GGUF": Target(MODELS, "m.gguf", use_model),
    "statistics": Target(STATISTICS, "s.gguf", use_statistics),
    "imatrix": Target(IMATRICES, "i.gguf", use_statistics),
    "plan": Target(PLANS, "p.json", use_plan),
    "plan in TOML": Target(PLANS_IN_TOML, "p.toml", use_plan),
    "index of safetensors": Target(INDEXES, "model/model.safetensors.index.json", use_folder),
    "head of safetensors": Target(WEIGHTS, "model/model.safetensors", use_folder),
    "configuration": Target(CONFIGURATIONS, "model/config.json", use_folder),
    "configuration for FastEWQ": Target(CONFIGURATIONS, "config.json", blocks_of_config),
    "data set of FastEWQ": Target([DATASET.read_bytes()[:600]], "blocks.csv", read_dataset),
    "facts of a conversion": Target(FACTS, "facts.json", use_facts),
    "journal of tensors": Target(JOURNALS, "tensors.jsonl", use_journal),
    "questions": Target(QUESTIONS, "q.csv", read_questions),
    "description of codes": Target(DESCRIPTIONS, "d.json", use_description),
    "head of codes": Target(CODES, "model/model.safetensors", use_codes),
    "answers": Target(ANSWERS, "a.json", read_results),
}
