"""JSON, TOML and CSV of strangers: configurations, indexes of weights, plans, data sets."""

import json
import struct
from pathlib import Path

import pytest

from eoq import convert, plan
from tests.attacks.statistics_files import model
from tests.attacks.tool import Main, assert_refused, assert_refused_within_limits

DEPTH = 200_000
LISTS, TABLES = "[" * DEPTH + "]" * DEPTH, '{"a":' * DEPTH + "1" + "}" * DEPTH
NINES = "9" * 300

DEEP: dict[str, tuple[str, str]] = {
    "lists": (LISTS, "nests"),
    "tables": (TABLES, "nests"),
    "lists that end early": ("[" * DEPTH, "nests"),
    "100 lists": ("[" * 100 + "]" * 100, "nests"),
    "a list in a table": (f'{{"architectures": {LISTS}}}', "nests"),
    "5000 digits": (f'{{"architectures": {"9" * 5000}}}', "not JSON"),
    "half a surrogate pair": ('{"architectures": ["\\udc80"]}', "half of a surrogate pair"),
    "half of one as a key": ('{"\\ud800": 1}', "half of a surrogate pair"),
    "nothing": ("", "not JSON"),
    "not UTF-8": ("\udcff", "not UTF-8"),
    "a byte order mark of another encoding": ("\udcff\udcfe{}", "not UTF-8"),
}


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


@pytest.fixture
def hf_folder(tmp_path: Path) -> Path:
    """A sound Hugging Face model, as far as it is looked at before it is converted."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    head = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    return folder


@pytest.mark.parametrize(("text", "message"), DEEP.values(), ids=DEEP.keys())
def test_configurations_indexes_and_plans(
    text: str, message: str, hf_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.gguf"
    (tmp_path / "m.gguf").write_bytes(model())
    index = write(hf_folder / "model.safetensors.index.json", text)
    assert_refused(convert.main, capsys, message, hf_folder, out, "--rtn")
    index.unlink()
    config = write(hf_folder / "config.json", text)
    assert_refused(convert.main, capsys, message, hf_folder, out, "--rtn")
    assert_refused(plan.main, capsys, message, config, "--planner", "fastewq")
    given = write(tmp_path / "plan.json", text)
    assert_refused(convert.main, capsys, message, tmp_path / "m.gguf", out, "--rtn", "--plan", given)
    assert not out.exists()


INDEXES: dict[str, tuple[str, str]] = {
    "folder above": ('{"weight_map": {"a": "../m.safetensors"}}', "no .safetensors file in its folder"),
    "..": ('{"weight_map": {"a": ".."}}', "no .safetensors file in its folder"),
    ".": ('{"weight_map": {"a": "."}}', "no .safetensors file in its folder"),
    "nothing": ('{"weight_map": {"a": ""}}', "no .safetensors file in its folder"),
    "absolute": ('{"weight_map": {"a": "/etc/m.safetensors"}}', "no .safetensors file in its folder"),
    "a NUL": ('{"weight_map": {"a": "a\\u0000.safetensors"}}', "no .safetensors file in its folder"),
    "300 letters": (json.dumps({"weight_map": {"a": "x" * 300 + ".safetensors"}}), "error"),
    "a number": ('{"weight_map": {"a": 1}}', "no weight_map"),
    "a list": ('{"weight_map": ["a"]}', "no weight_map"),
    "a text": ('"weight_map"', "no weight_map"),
    "a folder": ('{"weight_map": {"a": "folder.safetensors"}}', "is a folder"),
    "escapes": ('{"weight_map": {"a": "\\u001b[2J\\n.safetensors"}}', r"\x1b[2J\n.safetensors"),
}


@pytest.mark.parametrize(("text", "message"), INDEXES.values(), ids=INDEXES.keys())
def test_indexes(text: str, message: str, hf_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hf_folder / "folder.safetensors").mkdir()
    write(hf_folder / "model.safetensors.index.json", text)
    assert_refused(convert.main, capsys, message, hf_folder, hf_folder.parent / "out.gguf", "--rtn")


def test_a_name_that_promises_10_to_the_15_shards(hf_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hf_folder / "model.safetensors").rename(hf_folder / f"model-1-of-{10**15}.safetensors")
    assert_refused(convert.main, capsys, "incomplete", hf_folder, hf_folder.parent / "out.gguf", "--rtn")


HEADS: dict[str, bytes] = {
    "length of 2^63": struct.pack("<Q", 2**63) + b"{}",
    "nested": struct.pack("<Q", 2 * DEPTH) + LISTS.encode(),
    "shape of 2^63": b'{"a":{"dtype":"F32","shape":[9223372036854775808,4],"data_offsets":[0,4]}}',
    "negative offset": b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}',
    "overlap": b'{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},'
    b'"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
def test_heads_of_safetensors(head: bytes, hf_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = head if not head.startswith(b"{") else struct.pack("<Q", len(head)) + head + bytes(4)
    (hf_folder / "model.safetensors").write_bytes(data)
    assert_refused(convert.main, capsys, "damaged", hf_folder, hf_folder.parent / "out.gguf", "--rtn")


def rule(expression: str) -> str:
    rules = [{"match": expression, "type": "eoq4"}]
    return json.dumps({"format": "eoq-plan", "version": 1, "rules": rules})


PLANS: dict[str, tuple[str, str, str]] = {
    "TOML lists": ("p.toml", f"a = {LISTS}", "nests"),
    "TOML tables": ("p.toml", "a = " + "{a = " * 100_000 + "1" + "}" * 100_000, "nests"),
    "TOML keys": ("p.toml", ".".join(["a"] * DEPTH) + " = 1", "256 dots"),
    "TOML keys 100 deep": ("p.toml", ".".join(["a"] * 100) + " = 1", "nests"),
    "an expression of parentheses": ("p.json", rule("(" * 4000), "nests too deep"),
    "an expression of a megabyte": ("p.json", rule("a" * 10**6), "1,000,000 letters"),
    "an expression with a large number": ("p.json", rule("a{99999999999999999999}"), "not a regular expression"),
    "TOML of nothing": ("p.toml", "", "it is no plan"),
    "TOML with a NUL": ("p.toml", "a = '\0'", "not TOML"),
    "2000 rules": (
        "p.json",
        json.dumps({"format": "eoq-plan", "version": 1, "rules": [{"match": "a", "type": "eoq4"}] * 2000}),
        "1024 at most",
    ),
    "escapes": (
        "p.json",
        '{"format": "eoq-plan", "version": 1, "tensors": {"\\u001b[2J\\nerror: x": "eoq4"}}',
        r"\x1b[2J\nerror: x",
    ),
    "a version of escapes": ("p.json", '{"format": "eoq-plan", "version": "\\u001b[2J"}', r"\x1b[2J"),
    "a version of a megabyte": ("p.json", json.dumps({"format": "eoq-plan", "version": "x" * 10**6}), "its version"),
}


@pytest.mark.parametrize(("name", "text", "message"), PLANS.values(), ids=PLANS.keys())
def test_plans(name: str, text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(model())
    words = [tmp_path / "m.gguf", tmp_path / "out.gguf", "--rtn", "--plan", write(tmp_path / name, text)]
    assert_refused(convert.main, capsys, message, *words)


SIZES = {"model_type": "llama", "hidden_size": 128, "num_attention_heads": 4, "intermediate_size": 256}
CONFIGURATIONS: dict[str, tuple[str, str]] = {
    "infinite layers": (json.dumps(SIZES | {"num_hidden_layers": float("inf")}), "num_hidden_layers = inf"),
    "layers of 1e999": ('{"model_type": "llama", "num_hidden_layers": 1e999}', "num_hidden_layers = inf"),
    "NaN layers": (json.dumps(SIZES | {"num_hidden_layers": float("nan")}), "num_hidden_layers = nan"),
    "10^12 layers": (json.dumps(SIZES | {"num_hidden_layers": 10**12}), "num_hidden_layers = 1000000000000"),
    "10^6 layers": (json.dumps(SIZES | {"num_hidden_layers": 10**6}), "runs up to 512"),
    "-3 layers": (json.dumps(SIZES | {"num_hidden_layers": -3}), "num_hidden_layers = -3"),
    "0 layers": (json.dumps(SIZES | {"num_hidden_layers": 0}), "lacks a size of its blocks (num_hidden_layers)"),
    "a text of layers": (json.dumps(SIZES | {"num_hidden_layers": "2"}), "num_hidden_layers = '2'"),
    "a list of layers": (json.dumps(SIZES | {"num_hidden_layers": [2]}), "num_hidden_layers = [2]"),
    "300 digits": (json.dumps(SIZES | {"num_hidden_layers": 2, "hidden_size": int(NINES)}), "hidden_size = 999"),
    "4000 digits": ('{"model_type": "llama", "num_hidden_layers": ' + "9" * 4000 + "}", "num_hidden_layers = 999"),
    "no heads": (json.dumps(SIZES | {"num_hidden_layers": 2, "num_attention_heads": 0}), "(num_attention_heads)"),
    "a number of dense layers": (
        json.dumps(SIZES | {"num_hidden_layers": 2, "mlp_only_layers": 7}),
        "mlp_only_layers = 7",
    ),
    "text_config is a list": ('{"model_type": "x", "text_config": [1]}', "no table of a model's sizes"),
    "text_config is a text": ('{"model_type": "x", "text_config": "llama"}', "no table of a model's sizes"),
    "model_type of escapes": ('{"model_type": "\\u001b[2J"}', r"\x1b[2J"),
    "model_type is a list": ('{"model_type": ["llama"]}', "are not known"),
}


@pytest.mark.parametrize(("text", "message"), CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_configurations_for_fastewq(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_refused(plan.main, capsys, message, write(tmp_path / "config.json", text), "--planner", "fastewq")


def test_10_to_the_12_layers_take_no_memory(tmp_path: Path) -> None:
    config = write(tmp_path / "config.json", CONFIGURATIONS["10^12 layers"][0])
    assert_refused_within_limits("num_hidden_layers", "plan_eoq.py", config, "--planner", "fastewq")


HEAD = "model_name,num_blocks,exec_index,num_parameters,quantization_type,quantized,source\n"


@pytest.mark.parametrize("row", [f"m,{NINES},2,100,raw,0,x", "m,2,-2,100,raw,0,x", f"m,2,2,{'9' * 5000},raw,0,x"])
def test_data_sets_with_numbers_that_cannot_be(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path / "config.json", json.dumps(SIZES | {"num_hidden_layers": 2}))
    blocks = write(tmp_path / "blocks.csv", HEAD + row + "\n")
    main: Main = plan.main
    assert_refused(main, capsys, "line 2 of the data set", config, "--planner", "fastewq", "--dataset", blocks)
