"""Hugging Face folders through the pinned llama.cpp's own converter."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import gguf
import pytest

from eoq_formats import kernels
from eoq_formats.gguf_registration import register
from eoq_formats.types import weight_type
from tests.integration.converter.command_line import assert_refused, run_and_signal, run_tool
from tests.samples.tiny_hf_model import write_tiny_llama

register()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


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
    assert_refused(done, f"could not read the model in {model}: ")
    assert not list(folder.iterdir())


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
