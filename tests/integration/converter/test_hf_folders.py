"""Hugging Face folders through the pinned llama.cpp's own converter."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest

from converter.ingest import open_model
from converter.options import SourceAccess
from eoq_formats import kernels
from eoq_formats.gguf_registration import register
from eoq_formats.types import weight_type
from terminal.progress import Progress
from tests.e2e.command import ROOT
from tests.integration.converter.command_line import assert_refused, run_and_signal, run_tool
from tests.samples.tiny_hf_model import write_tiny_llama

register()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_tiny_llama(tmp_path / "model")
    return tmp_path / "model"


def stand_in(tmp_path: Path, code: str) -> Path:
    """A llama.cpp tree whose converter is a few lines of the test's own."""
    tree = tmp_path / "llama.cpp"
    tree.mkdir()
    (tree / "convert_hf_to_gguf.py").write_text(code)
    return tree


@pytest.mark.llama_cpp
def test_a_folder_becomes_the_gguf_that_its_weights_say(tmp_path: Path, folder: Path, llama_source: Path) -> None:
    weights = write_tiny_llama(tmp_path / "model")
    for name in ("m.gguf", "again.gguf"):
        done = run_tool(tmp_path / "model", folder / name, "--llama-dir", llama_source, "--type", "eoq5")
        assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "m.gguf").read_bytes() == (folder / "again.gguf").read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == [
        "again.gguf",
        "again.report.json",
        "m.gguf",
        "m.report.json",
    ]
    tensors = {t.name: t for t in gguf.GGUFReader(folder / "m.gguf").tensors}
    for name, hf_name, kind in [
        ("blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight", "eoq5_64"),
        ("blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight", "eoq5"),
        ("output.weight", "lm_head.weight", "eoq6"),
        ("token_embd.weight", "model.embed_tokens.weight", "eoq5"),
    ]:
        packed = kernels.quantize(weights[hf_name], weight_type(kind))
        assert tensors[name].data.tobytes() == packed.data.tobytes(), name
    assert (tensors["output_norm.weight"].data == weights["model.norm.weight"]).all()


@pytest.mark.llama_cpp
def test_an_architecture_that_llama_cpp_does_not_know(model: Path, folder: Path, llama_source: Path) -> None:
    config = json.loads((model / "config.json").read_text()) | {"architectures": ["NoSuchForCausalLM"]}
    (model / "config.json").write_text(json.dumps(config))
    done = run_tool(model, folder / "m.gguf", "--llama-dir", llama_source)
    assert_refused(done, "does not know the architecture NoSuchForCausalLM")
    assert not list(folder.iterdir())


@pytest.mark.llama_cpp
def test_a_folder_without_tokenizer(model: Path, folder: Path, llama_source: Path) -> None:
    (model / "tokenizer.model").unlink()
    done = run_tool(model, folder / "m.gguf", "--llama-dir", llama_source)
    assert_refused(done, f"could not read the tokenizer in {model}: the folder has none of tokenizer.json, ")
    assert not list(folder.iterdir())


TOKENIZER = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}


@pytest.mark.llama_cpp
@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "TokenizersBackend"},
        {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["a"]},
    ],
)
def test_tokenizers_as_transformers_5_saves_them_are_read(
    settings: dict[str, object], model: Path, folder: Path, llama_source: Path
) -> None:
    """As far as to what the converter makes of any other that it does not know."""
    (model / "tokenizer.model").unlink()
    (model / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    done = run_tool(model, folder / "m.gguf", "--llama-dir", llama_source)
    assert_refused(done, f"could not read the tokenizer in {model}: NotImplementedError: BPE pre-tokenizer was not")


@pytest.mark.llama_cpp
def test_a_model_in_the_cache_of_the_hub_has_the_name_of_its_repository(
    tmp_path: Path, folder: Path, llama_source: Path
) -> None:
    snapshot = tmp_path / "models--org--nice-model" / "snapshots" / ("0123456789" * 4)
    snapshot.parent.mkdir(parents=True)
    write_tiny_llama(snapshot)
    done = run_tool(snapshot, folder / "m.gguf", "--llama-dir", llama_source)
    assert (done.returncode, done.stderr) == (0, "")
    fields = gguf.GGUFReader(folder / "m.gguf").fields
    assert fields["general.name"].contents() == "Nice Model"
    named = [field.name for field in fields.values() if "0123456789" in str(field.contents())]
    assert named == ["general.source.url"]
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]
    # the errors name the folder itself
    (snapshot / "tokenizer.model").write_bytes(b"no tokenizer")
    done = run_tool(snapshot, folder / "x.gguf", "--llama-dir", llama_source)
    assert_refused(done, f"could not parse ModelProto from {snapshot}/tokenizer.model")


def test_nothing_else_is_left_beside_an_intermediate_gguf_that_is_kept(
    tmp_path: Path, folder: Path, llama_source: Path
) -> None:
    """A later run would take it for somebody's file, and refuse to go on."""
    snapshot = tmp_path / "models--org--nice-model" / "snapshots" / ("0123456789" * 4)
    snapshot.parent.mkdir(parents=True)
    write_tiny_llama(snapshot)
    kept, access = folder / "source.gguf", SourceAccess(llama_dir=llama_source)
    with open_model(snapshot, tmp_path / "m.gguf", access, 1, Progress(), kept=kept):
        assert [path.name for path in folder.iterdir()] == ["source.gguf"]


@pytest.fixture
def hostile_model(tmp_path: Path) -> Path:
    """Its tokenizer brings code that leaves the file `it ran`; for Dream, the converter trusts such code."""
    folder = tmp_path / "hostile"
    code_map = {"AutoConfig": "evil.Config", "AutoTokenizer": [None, "evil.Tokenizer"]}
    write_tiny_llama(folder, architectures=["DreamModel"], model_type="evil", auto_map=code_map)
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Tokenizer", "auto_map": code_map}))
    (folder / "evil.py").write_text(
        f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n"
        "from transformers import PretrainedConfig, PreTrainedTokenizerFast\n"
        "class Config(PretrainedConfig):\n    model_type = 'evil'\n"
        "class Tokenizer(PreTrainedTokenizerFast):\n    pass\n"
    )
    return folder


@pytest.mark.llama_cpp
def test_code_in_a_model_folder_is_never_run(
    hostile_model: Path, folder: Path, tmp_path: Path, llama_source: Path
) -> None:
    done = run_tool(hostile_model, folder / "m.gguf", "--llama-dir", llama_source)
    assert_refused(done, "brings Python code of its own")
    assert not (tmp_path / "it ran").exists() and not list(folder.iterdir())

    # the same folder without our launcher: the danger is real
    command = [sys.executable, str(llama_source / "convert_hf_to_gguf.py"), str(hostile_model)]
    command += ["--outfile", str(tmp_path / "x.gguf")]
    environment = os.environ | {
        "HF_HOME": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run(command, env=environment, capture_output=True)
    assert (tmp_path / "it ran").exists()


FOREIGN = {
    "another model": {
        "model_type": "lightglue",
        "keypoint_detector_config": {"model_type": "evil", "_name_or_path": "FOLDER"},
    },
    "trust": {"text_config": {"inner": [{"trust_remote_code": True}]}},
    "backbone": {"vision_config": {"backbone": "FOLDER", "use_timm_backbone": False}},
    "kernel": {"_attn_implementation": "evil/kernel"},
    "kernel of a part": {"attn_implementation": {"text_config": "evil/kernel"}},
}


@pytest.mark.llama_cpp
@pytest.mark.parametrize("tool", ["convert_eoq.py", "stats_eoq.py", "plan_eoq.py"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_configurations_that_load_something_else_are_refused(
    kind: str, tool: str, tmp_path: Path, folder: Path, llama_source: Path
) -> None:
    model = tmp_path / "model"
    config = json.loads(json.dumps(FOREIGN[kind]).replace("FOLDER", str(model)))
    write_tiny_llama(model, **{"auto_map": {"AutoConfig": "evil.Config"}, **config})
    (model / "evil.py").write_text(f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n")
    words: dict[str, list[Path | str]] = {
        "convert_eoq.py": [model, folder / "m.gguf"],
        "stats_eoq.py": ["collect", model, folder / "m.stats"],
        "plan_eoq.py": [model, "--target-bpw", "6", "--json", folder / "plan.json"],
    }
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, words[tool]), "--llama-dir", str(llama_source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert re.search(r"^error: \S+config.json has \S+ = .*; remove it if you trust the model$", done.stderr, re.M)
    assert not (tmp_path / "it ran").exists() and not list(folder.iterdir())


@pytest.mark.llama_cpp
def test_scripts_beside_a_sound_model_are_not_run(
    model: Path, folder: Path, tmp_path: Path, llama_source: Path
) -> None:
    for name in ("custom_generate/generate.py", "modeling_llama.py", "configuration_llama.py", "sitecustomize.py"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_text(f"open({str(tmp_path / 'it ran')!r}, 'w').close()\n")
    config = json.loads((model / "config.json").read_text()) | {"_attn_implementation_autoset": True}
    (model / "config.json").write_text(json.dumps(config | {"_attn_implementation": "sdpa", "backbone": None}))
    done = run_tool(model, folder / "m.gguf", "--llama-dir", llama_source)
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "it ran").exists()


def test_no_configuration_is_read_while_another_is(model: Path, folder: Path, tmp_path: Path) -> None:
    """Should a key be missing in the list of those that are refused."""
    tree = stand_in(
        tmp_path,
        "import sys\n"
        "from transformers import AutoConfig, PretrainedConfig\n"
        "class Outer(PretrainedConfig):\n"
        "    model_type = 'outer'\n"
        "    def __init__(self, inner=None, **rest):\n"
        "        super().__init__(**rest)\n"
        "        if inner: AutoConfig.from_pretrained(inner)\n"
        "AutoConfig.register('outer', Outer)\n"
        "AutoConfig.from_pretrained(sys.argv[-1])\n",
    )
    config = json.loads((model / "config.json").read_text()) | {"model_type": "outer"}
    (model / "config.json").write_text(json.dumps(config | {"inner": str(model)}))
    assert_refused(run_tool(model, folder / "m.gguf", "--llama-dir", tree), "or loads another model by its name")
    (model / "config.json").write_text(json.dumps(config))
    assert_refused(run_tool(model, folder / "m.gguf", "--llama-dir", tree), "ended without writing a file")


def test_damaged_weights_are_found_before_the_converter_runs(model: Path, folder: Path, tmp_path: Path) -> None:
    tree = stand_in(tmp_path, "raise SystemExit('must not run')")
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    done = run_tool(model, folder / "m.gguf", "--llama-dir", tree)
    assert_refused(done, f"{path} is cut short or damaged")


def test_a_converter_that_fails(model: Path, folder: Path, tmp_path: Path) -> None:
    tree = stand_in(
        tmp_path,
        "import sys\nout = sys.argv[sys.argv.index('--outfile') + 1]\nopen(out, 'wb').write(b'GGUF')\n"
        "def load():\n    raise ValueError('no good')\nload()\n",
    )
    done = run_tool(model, folder / "m.gguf", "--llama-dir", tree)
    assert_refused(done, f"could not read the model in {model}: ValueError: no good")
    assert not list(folder.iterdir())


def test_a_tree_without_converter(model: Path, folder: Path, tmp_path: Path) -> None:
    done = run_tool(model, folder / "m.gguf", "--llama-dir", tmp_path)
    assert_refused(done, f"--llama-dir {tmp_path} is no llama.cpp source tree")


def test_the_output_is_no_file_of_the_model(model: Path) -> None:
    before = (model / "model.safetensors").read_bytes()
    assert_refused(run_tool(model, model / "model.safetensors"), "model.safetensors, which is read")
    assert (model / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_interruption_ends_the_converter_and_leaves_nothing(
    number: signal.Signals, model: Path, folder: Path, tmp_path: Path
) -> None:
    tree = stand_in(
        tmp_path,
        "import os, sys, time\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'x' * 1000)\n"
        "here = os.path.dirname(__file__)\nopen(here + '/pid', 'w').write(str(os.getpid()))\n"
        "time.sleep(300)\n",
    )
    work = tmp_path / "work"
    work.mkdir()
    pid = tree / "pid"

    def started(line: str) -> bool:
        while "to GGUF" in line and not (pid.exists() and pid.read_text()):
            time.sleep(0.05)
        return "to GGUF" in line

    arguments = (model, folder / "m.gguf", "--llama-dir", tree, "--work-dir", work)
    status, errors = run_and_signal(started, number, *arguments)
    assert (status, errors) == (128 + number, "error: interrupted; nothing was written\n")
    assert not list(folder.iterdir()) and not list(work.iterdir())
    assert not Path(f"/proc/{pid.read_text()}").exists()
