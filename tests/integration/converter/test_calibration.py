"""Calibration of random models by llama-moments: against hooks on transformers, and against llama.cpp's own imatrix."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from numpy.typing import NDArray

from converter.calibrate.calibrate import calibrate, leftovers
from converter.errors import CalibrationError, StatisticsError
from converter.ingest.hf_convert import convert_to_gguf
from converter.ingest.hf_folder import read_hf_folder
from converter.options import OWN_TEXT, CalibrationOptions, CalibrationText
from converter.statistics import Statistics, check_statistics, open_statistics
from eoq_formats.errors import NonFiniteWeightError
from gguf_files.source import open_gguf
from material import models
from terminal.progress import Progress
from tests.e2e.command import run
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.samples.llama_forward import llama_inputs
from tests.samples.tiny_ggufs import HEADS, LAYOUTS, write_gguf_model
from tests.samples.tiny_models import CONFIGS
from tests.samples.tiny_sources import matrices, write_folder_and_gguf, write_text

pytestmark = pytest.mark.llama_cpp

Folders = Callable[[str], tuple[Path, Path]]
Calibrate = Callable[..., Statistics]

BFLOAT16 = 2**-7 + 2**-16
"""Relative error of a product of two numbers with significands of 8 bits, which is how a CPU that can multiplies."""
FORWARD = 6e-3
"""Of activations: llama.cpp keeps keys and values as F16, and its gelu reads a table of F16 numbers."""
THREADS = 1
EXPERT = re.compile(r"\.experts\.(\d+)\.")
IN_LLAMA_CPP = (
    *("llama", "mixtral", "qwen2", "qwen3", "gemma3", "phi3"),
    *("qwen2moe", "qwen3moe", "gpt-oss", "jamba", "modern-bert"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, llama_source: Path) -> Folders:
    """Gives folder and GGUF of a random model."""
    root = tmp_path_factory.mktemp("tiny")
    return lambda architecture: write_folder_and_gguf(architecture, root, llama_source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def options(folder: Path, programs: Path) -> CalibrationOptions:
    """Four sequences of 128 tokens."""
    return CalibrationOptions(
        texts=(CalibrationText(write_text(folder)),), tokens=512, sequence_length=128, llama_bin=programs
    )


def calibrated(gguf_file: Path, target: Path, chosen: CalibrationOptions) -> Statistics:
    return calibrate(open_gguf(gguf_file), target, chosen, THREADS, Progress())


def plain_moments(
    folder: Path, gguf_file: Path, text: str, length: int
) -> dict[tuple[str, int], tuple[int, NDArray[np.float64]]]:
    """Tokens and mean of x xᵀ in float64 for each linear module, by GGUF tensor and expert: hooks on the model, which
    is run on the text from its start on."""
    source = open_gguf(gguf_file)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer(text, return_tensors="pt")["input_ids"][:, :length]
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    arch = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == source.architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    given: dict[tuple[str, int], list[NDArray[np.float64]]] = {}

    def hook(key: tuple[str, int]) -> Callable[..., None]:
        return lambda module, arguments: given.setdefault(key, []).append(
            arguments[0].reshape(-1, arguments[0].shape[-1]).double().numpy()
        )

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            expert = EXPERT.search(name)
            found = names.get_name(EXPERT.sub(".experts.", name)) or "output"
            if found == "output" and "output.weight" not in {t.name for t in source.tensors}:
                found = "token_embd"
            module.register_forward_pre_hook(hook((f"{found}.weight", int(expert[1]) if expert else 0)))
    with torch.no_grad():
        model(tokens)
    return {key: (sum(map(len, pieces)), (x := np.concatenate(pieces)).T @ x / len(x)) for key, pieces in given.items()}


def known(statistics: Statistics, name: str, expert: int = 0) -> NDArray[np.float32]:
    moments = statistics.moments(name, expert)
    assert moments is not None
    return moments


def worst(got: NDArray[np.floating], true: NDArray[np.floating]) -> float:
    """The largest error of a moment, relative to the root mean squares of its two channels."""
    scale = np.sqrt(np.maximum(np.diag(true), np.finfo(np.float32).tiny))
    return float(np.max(np.abs(got - true) / scale / scale[:, None]))


@pytest.mark.parametrize("architecture", sorted(set(CONFIGS) - {"gemma3"}))  # its folder has another tokenizer
def test_moments_are_those_of_plain_hooks(
    architecture: str, tiny: Folders, folder: Path, options: CalibrationOptions
) -> None:
    model, gguf_file = tiny(architecture)
    # a text of less than two sequences is run from its start on
    text = write_text(folder, 25)
    found = calibrated(
        gguf_file, folder / "s.stats", replace(options, texts=(CalibrationText(text),), sequence_length=256)
    )
    check_statistics(found, open_gguf(gguf_file))
    true = plain_moments(model, gguf_file, text.read_text(), 256)
    for t in matrices(open_gguf(gguf_file)):
        if (t.name, 0) not in true and "exps" not in t.name:
            assert t.name == "token_embd.weight" and t.name not in found  # rows are looked up, not multiplied
            continue
        for expert, count in enumerate(found.counts(t.name)):
            tokens, moments = true.get((t.name, expert), (0, np.zeros(())))
            # a token on the brink may go to another expert
            assert abs(count - tokens) <= (2 if "exps" in t.name else 0), t.name
            if tokens and count == tokens and "exps" not in t.name:
                assert worst(known(found, t.name, expert), moments) < BFLOAT16 + FORWARD, t.name
            assert np.array_equal(found.diagonal(t.name)[expert], np.diag(known(found, t.name, expert)))


def test_moments_of_a_llama_are_those_of_numpy(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    """With frequencies scaled as in Llama 3.1."""
    model, tokens_of = tiny("llama")
    gguf_file = write_gguf_model("llama3.1", folder / "m.gguf", tokens_of)
    text = write_text(folder, 25)
    found = calibrated(
        gguf_file, folder / "s.stats", replace(options, texts=(CalibrationText(text),), sequence_length=256)
    )
    tokens = transformers.AutoTokenizer.from_pretrained(model)(text.read_text(), return_tensors="np")["input_ids"][0]
    reader = gguf.GGUFReader(gguf_file)
    weights = {t.name: np.asarray(t.data, dtype=np.float64) for t in reader.tensors}
    assert {"rope_freqs.weight", "output.weight"} <= set(weights)
    given = llama_inputs(weights, tokens[:256], HEADS, LAYOUTS["llama3.1"].kv_heads)
    assert set(found.tensor_names) == set(given)
    for name, inputs in given.items():
        assert found.counts(name).tolist() == [256]
        assert worst(known(found, name), inputs.T @ inputs / 256) < BFLOAT16 + FORWARD, name
    # the tolerance tells one model from another
    del weights["rope_freqs.weight"]
    other = llama_inputs(weights, tokens[:256], HEADS, LAYOUTS["llama3.1"].kv_heads)["blk.0.attn_output.weight"]
    assert worst(known(found, "blk.0.attn_output.weight"), other.T @ other / 256) > 2 * (BFLOAT16 + FORWARD)


def test_tensors_with_the_same_input_share_it(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    keys = calibrated(tiny("mixtral")[1], folder / "s.stats", options).input_key
    assert keys("blk.0.attn_q.weight") == keys("blk.0.attn_k.weight") == keys("blk.0.attn_v.weight")
    assert keys("blk.1.ffn_gate_exps.weight") == keys("blk.1.ffn_up_exps.weight")
    assert (
        len({keys(f"blk.{i}.{name}.weight") for i in (0, 1) for name in ("attn_q", "attn_output", "ffn_up_exps")}) == 6
    )


@pytest.mark.parametrize("architecture", IN_LLAMA_CPP)
def test_diagonals_are_those_of_llama_imatrix(
    architecture: str, tiny: Folders, folder: Path, options: CalibrationOptions, programs: Path
) -> None:
    """One chunk of text: tokens, routing and squares are those that llama.cpp sees itself."""
    if architecture in CONFIGS:
        gguf_file = tiny(architecture)[1]
    else:
        gguf_file = write_gguf_model(architecture, folder / f"{architecture}.gguf", tiny("llama")[1])
    text, imatrix = write_text(folder), folder / "imatrix.gguf"
    chosen = replace(options, texts=(CalibrationText(write_text(folder, 30)),), tokens=256, sequence_length=256)
    found = calibrated(gguf_file, folder / "s.stats", chosen)
    once = ("-c", "256", "--chunks", "1", "-t", "1", "--no-ppl")
    run(programs / "llama-imatrix", "-m", gguf_file, "-f", text, "-o", imatrix, "--process-output", *once)
    true = open_statistics(imatrix)
    # llama-imatrix leaves tied embeddings out, and a matrix with few rows
    assert set(true.tensor_names) <= set(found.tensor_names)
    assert len(true.tensor_names) >= 8
    for name in true.tensor_names:
        assert found.counts(name).tolist() == true.counts(name).tolist()
        assert np.allclose(found.diagonal(name), true.diagonal(name), rtol=BFLOAT16, atol=1e-12), name


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_little_memory_changes_nothing(
    architecture: str, tiny: Folders, folder: Path, options: CalibrationOptions
) -> None:
    _, gguf_file = tiny(architecture)
    usual = calibrated(gguf_file, folder / "a.stats", options)
    frugal = calibrated(gguf_file, folder / "b.stats", replace(options, memory_limit=1))
    assert usual.path.read_bytes() == frugal.path.read_bytes()


def test_sequences_of_several_texts_and_several_at_a_time(
    tiny: Folders, folder: Path, options: CalibrationOptions, programs: Path
) -> None:
    """A short text is taken whole, and the others share what it leaves."""
    _, gguf_file = tiny("llama")
    texts = (write_text(folder, 60), write_text(folder, 12), write_text(folder, 59))
    one = calibrated(
        gguf_file, folder / "a.stats", replace(options, texts=tuple(map(CalibrationText, texts)), tokens=1024)
    )
    assert one.tokens == 8 * 128
    assert "text-60.txt + text-12.txt + text-59.txt, 8 sequences of 128 tokens, perplexity" in one.description
    words: list[Path | str] = ["-m", gguf_file, "-o", folder / "b.stats", "-c", "128", "--tokens", "1024", "-t", "1"]
    run(
        programs / "llama-moments",
        *words,
        "--process-output",
        "-b",
        "256",
        *[word for text in texts for word in ("-f", text)],
    )
    two = open_statistics(folder / "b.stats")
    assert two.fingerprint is None and two.tokens == one.tokens
    for name in one.tensor_names:
        assert two.counts(name).tolist() == one.counts(name).tolist()
        assert worst(known(two, name), known(one, name)) < 1e-4, name  # attention sums in another order


def test_texts_by_weight_and_conversations(
    tiny: Folders, folder: Path, options: CalibrationOptions, programs: Path
) -> None:
    _, gguf_file = tiny("llama")
    chats = folder / "chats.jsonl"
    message = {"role": "user", "content": "the model number 1 answers"}
    reply = {"from": "gpt", "value": "questions about a. the model number 2 answers 4 questions about c."}
    chats.write_text((json.dumps({"messages": [message, message]}) + "\n\n" + json.dumps([message, reply]) + "\n") * 40)
    texts = (CalibrationText(write_text(folder, 60)), CalibrationText(chats, 0.5))
    chosen = replace(options, texts=texts, tokens=768)
    with pytest.raises(CalibrationError, match=r"the model has no chat template, which \S+chats.jsonl needs"):
        calibrated(gguf_file, folder / "s.stats", chosen)
    with_template = folder / "template.gguf"
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}"
    script = (sys.executable, "-m", "gguf.scripts.gguf_new_metadata")
    run(*script, gguf_file, with_template, "--chat-template", template)
    found = calibrated(with_template, folder / "s.stats", chosen)
    assert "text-60.txt + chats.jsonl:0.5, 6 sequences of 128 tokens" in found.description
    chats.write_text(chats.read_text() + '{"messages": 7}\n')
    with pytest.raises(CalibrationError, match=r"line 121 of \S+chats.jsonl is no conversation of this model"):
        calibrated(with_template, folder / "s.stats", chosen)


def test_the_model_writes_its_own_text(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    """At temperature 1: the first words follow the model's own odds."""
    _, gguf_file = tiny("llama")
    texts = (CalibrationText(OWN_TEXT, 3), CalibrationText(write_text(folder)))
    for name in ("a.stats", "b.stats"):
        found = calibrated(gguf_file, folder / name, replace(options, texts=texts, tokens=1024))
    assert "self:3 + text-60.txt, 8 sequences of 128 tokens" in found.description
    assert (folder / "a.stats").read_bytes() == (folder / "b.stats").read_bytes()
    alone = calibrated(gguf_file, folder / "c.stats", replace(options, texts=(CalibrationText(OWN_TEXT),), tokens=8192))
    # a random model finds its own text as likely as it can be
    odds = [float(re.findall(r"perplexity ([\d.]+)", s.description)[0]) for s in (alone, found)]
    assert odds[0] == odds[1] < len(gguf.GGUFReader(gguf_file).fields["tokenizer.ggml.tokens"].contents())
    encoder = write_gguf_model("modern-bert", folder / "m.gguf", tiny("llama")[1])
    with pytest.raises(CalibrationError, match=r"the model writes no text of its own; give texts with -f"):
        calibrated(encoder, folder / "s.stats", replace(options, texts=(CalibrationText(OWN_TEXT),)))


def test_experts_can_all_be_used(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    _, gguf_file = tiny("mixtral")
    routed = calibrated(gguf_file, folder / "a.stats", options)
    shown = calibrated(gguf_file, folder / "b.stats", replace(options, all_experts=True))
    assert "other llama.expert_used_count" in shown.description
    for layer in (0, 1):
        gate, down = f"blk.{layer}.ffn_gate_exps.weight", f"blk.{layer}.ffn_down_exps.weight"
        assert shown.counts(gate).tolist() == shown.counts(down).tolist() == [512] * 4
        assert routed.counts(gate).sum() == 2 * 512
        assert np.array_equal(known(shown, gate, 0), known(shown, gate, 3))
        assert not np.array_equal(known(shown, down, 0), known(shown, down, 3))
    # of what every expert of the first layer is now given, the routed tokens were a part: each token twice
    gate = "blk.0.ffn_gate_exps.weight"
    weights = routed.counts(gate) / (2 * 512)
    mean = np.einsum("e,en->n", weights, routed.diagonal(gate))
    assert np.allclose(mean, shown.diagonal(gate)[0], rtol=1e-4)
    assert (folder / "b.stats").stat().st_size < (folder / "a.stats").stat().st_size


def test_experts_that_no_token_reached_have_empty_statistics(
    tiny: Folders, folder: Path, options: CalibrationOptions
) -> None:
    """Routers of zeros find all experts alike, and take the same ones each time."""
    _, gguf_file = tiny("mixtral")
    blind = folder / "blind.gguf"
    blind.write_bytes(gguf_file.read_bytes())
    reader = gguf.GGUFReader(blind, "r+")
    for tensor in reader.tensors:
        if "ffn_gate_inp" in tensor.name:
            tensor.data[:] = 0
    reader.data.flush()
    found = calibrated(blind, folder / "s.stats", options)
    for name in ("blk.0.ffn_down_exps.weight", "blk.1.ffn_gate_exps.weight"):
        counts = found.counts(name)
        assert sorted(counts.tolist()) == [0, 0, 512, 512]
        unused = [int(i) for i in np.flatnonzero(counts == 0)]
        for expert in unused:
            assert not known(found, name, expert).any() and not found.diagonal(name)[expert].any()
        assert found.experts_short_of_tokens(name) == unused
    (warning,) = found.warnings()
    assert warning.startswith("2 of 4 experts of blk.0.ffn_") and ", the worst of 6 tensors, saw" in warning


def test_a_weight_that_is_no_number_is_named(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    """Neither another text nor an imatrix helps then."""
    _, gguf_file = tiny("llama")
    damaged = folder / "damaged.gguf"
    damaged.write_bytes(gguf_file.read_bytes())
    reader = gguf.GGUFReader(damaged, "r+")
    next(t for t in reader.tensors if t.name == "blk.1.attn_v.weight").data[3, 5] = np.nan
    reader.data.flush()
    with pytest.raises(NonFiniteWeightError, match=r"tensor blk.1.attn_v.weight has a NaN or an infinity in row 3"):
        calibrated(damaged, folder / "s.stats", options)
    assert not (folder / "s.stats").exists()


def test_encoders_with_decoders(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    """Which llama-imatrix cannot run."""
    gguf_file = write_gguf_model("t5", folder / "t5.gguf", tiny("llama")[1])
    found = calibrated(gguf_file, folder / "s.stats", options)
    assert set(found.tensor_names) == {t.name for t in matrices(open_gguf(gguf_file))} - {"token_embd.weight"}
    assert all(found.counts(name).tolist() == [512] for name in found.tensor_names)
    keys = found.input_key
    # what the encoder has made of the text goes to all blocks of the decoder
    crossing = {keys(f"dec.blk.{i}.cross_attn_{matrix}.weight") for i in (0, 1) for matrix in "kv"}
    assert len(crossing) == 1 and keys("dec.blk.0.cross_attn_q.weight") not in crossing
    assert keys("enc.blk.0.attn_q.weight") != keys("dec.blk.0.attn_q.weight")
    # outputs of both ends are normed: by its weights the decoder's is told from the encoder's
    norms = {t.name: np.asarray(t.data) for t in gguf.GGUFReader(gguf_file).tensors if "output_norm" in t.name}
    for name, end in (("output.weight", "dec"), ("dec.blk.0.cross_attn_k.weight", "enc")):
        unweighted = found.diagonal(name)[0] / norms[f"{end}.output_norm.weight"] ** 2
        assert abs(unweighted.mean() - 1) < 0.01, name


@pytest.mark.download
def test_bert_like_encoders(folder: Path, llama_source: Path, options: CalibrationOptions) -> None:
    model, gguf_file = models.minilm(), folder / "minilm.gguf"
    convert_to_gguf(read_hf_folder(model, allow_requantize=False), gguf_file, llama_source, 2, Progress())
    found = calibrated(gguf_file, folder / "s.stats", replace(options, texts=(), tokens=1024))
    assert len(found.tensor_names) == 36 and found.tokens == 1024
    assert found.input_key("blk.0.attn_q.weight") == found.input_key("blk.0.attn_v.weight")
    assert found.counts("blk.5.ffn_down.weight").tolist() == [1024]
    assert "perplexity" not in found.description
    assert found.description.startswith("bundled-chat.txt + bundled-code.txt + ")


def test_the_same_options_give_the_same_file(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    for name in ("a.stats", "b.stats"):
        calibrated(tiny("llama")[1], folder / name, options)
    assert (folder / "a.stats").read_bytes() == (folder / "b.stats").read_bytes()


@pytest.mark.parametrize("memory", ["4096", "1"], ids=["one pass", "several"])
def test_a_killed_calibration_is_resumed_with_equal_sums(
    memory: str, tiny: Folders, folder: Path, programs: Path
) -> None:
    _, gguf_file = tiny("mixtral")
    target, whole = folder / "s.stats", folder / "whole.stats"
    command: list[Path | str] = [programs / "llama-moments", "-m", gguf_file, "-f", write_text(folder), "-c", "16"]
    command += ["-t", "1", "--memory", memory, "--process-output", "--save-every", "0", "--resume"]
    run(*command, "-o", whole)
    assert not any(path.exists() for path in leftovers(whole))
    target.write_bytes(b"old")
    killed = 0
    for enough in range(5, 200, 20):
        with subprocess.Popen([*command, "-o", target], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, line in enumerate(process.stdout):
                if number >= enough and line.startswith("sequence"):
                    process.kill()
                    break
        if process.wait() == 0:
            break
        killed += 1
        assert target.read_bytes() == b"old" and leftovers(target)[1].exists()
    assert killed > 1 and target.read_bytes() == whole.read_bytes()
    assert not any(path.exists() for path in leftovers(target))


def test_a_checkpoint_of_another_text_is_refused(tiny: Folders, folder: Path, programs: Path) -> None:
    _, gguf_file = tiny("llama")
    target = folder / "s.stats"
    command: list[Path | str] = [programs / "llama-moments", "-m", gguf_file, "-c", "16", "-o", target]
    command += ["--save-every", "0"]
    with subprocess.Popen([*command, "-f", write_text(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(process.stdout), next(process.stdout)
        process.kill()
    process.wait()
    said = run(*command, "-f", write_text(folder, 30), "--resume", expect_failure=True)
    assert "is of another model, text or options; leave --resume out to start anew" in said
    run(*command, "-f", write_text(folder, 30))
    assert open_statistics(target).tokens > 256 and not any(path.exists() for path in leftovers(target))


def test_a_killed_converter_leaves_the_old_file_and_can_be_started_again(tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    target = folder / "s.stats"
    target.write_bytes(b"old")
    text = write_text(folder)
    long = folder / "long.txt"
    long.write_text(200 * text.read_text())  # not at its end before it is killed, on a busy machine either
    command = [sys.executable, "tools/stats_eoq.py", "collect", str(gguf_file), str(target), "--threads", "1"]
    command += ["--calib-length", "8", "--quiet", "--calib"]
    with subprocess.Popen([*command, str(long)], cwd=Path(__file__).parents[3]) as process:
        while process.poll() is None and not leftovers(target)[0].exists():
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert open_gguf(gguf_file).tensors  # the model is as it was
    subprocess.run([*command, str(text)], cwd=Path(__file__).parents[3], check=True)
    assert open_statistics(target).tokens > 256


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_calibration_leaves_nothing(name: signal.Signals, tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    out = folder / "out"
    out.mkdir()
    command = [sys.executable, "tools/stats_eoq.py", "collect", str(gguf_file), str(out / "s.stats"), "--threads", "1"]
    command += ["--calib", str(write_text(folder)), "--calib-length", "8", "--quiet"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3], stderr=subprocess.PIPE) as process:
        while process.poll() is None and not list(out.iterdir()):
            time.sleep(0.001)
        process.send_signal(name)
        said = process.communicate()[1].decode()
    assert process.returncode == 128 + name, said
    assert not list(out.iterdir())


def test_statistics_of_another_model_are_refused(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    found = calibrated(tiny("llama")[1], folder / "s.stats", options)
    with pytest.raises(StatisticsError, match="of another model"):
        check_statistics(found, open_gguf(tiny("qwen2")[1]))


def test_models_that_llama_cpp_cannot_run_name_the_ways_out(folder: Path, options: CalibrationOptions) -> None:
    out = folder / "out"
    out.mkdir()
    source = write_gguf(folder / "source.gguf", tiny_model())
    with pytest.raises(CalibrationError, match=r"llama.cpp cannot load it.*--imatrix FILE .*--rtn"):
        calibrated(source, out / "s.stats", options)
    assert not list(out.iterdir())


def test_texts_that_are_too_short_are_refused(tiny: Folders, folder: Path, options: CalibrationOptions) -> None:
    with pytest.raises(CalibrationError, match=r"the text has only \d+ tokens, too few for any statistics"):
        calibrated(
            tiny("llama")[1], folder / "s.stats", replace(options, texts=(CalibrationText(write_text(folder, 3)),))
        )
    assert not (folder / "s.stats").exists()
