"""Calibration of random models: against plain hooks on transformers, and against llama.cpp's own imatrix."""

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

from converter.calibrate import stages
from converter.calibrate.calibrate import calibrate
from converter.calibrate.load import LoadedModel, load_model
from converter.calibrate.sequences import make_sequences
from converter.errors import CalibrationError, StatisticsError
from converter.ingest.hf_convert import convert_to_gguf
from converter.ingest.hf_folder import read_hf_folder
from converter.options import CalibrationOptions
from converter.statistics import Statistics, check_statistics, open_statistics
from gguf_files.source import Source, open_gguf
from material import models
from terminal.progress import Progress
from tests.e2e.command import run
from tests.samples.tiny_ggufs import write_gguf_model
from tests.samples.tiny_models import CONFIGS
from tests.samples.tiny_sources import matrices, write_folder_and_gguf, write_text

Folders = Callable[[str], tuple[Path, Path]]

ROUNDING = 2e-6
"""Relative error in the norm of sums in float32, in whatever order."""
THREADS = 1
"""More would sum in another order."""
EXPERT = re.compile(r"\.experts\.(\d+)\.")
IN_LLAMA_CPP = ("llama", "mixtral", "qwen2", "qwen3", "gemma3", "phi3", "qwen2moe", "qwen3moe")
IMATRIX_TOLERANCE = {"gemma3": 1e-3}
"""llama.cpp's gelu reads a table of F16 numbers."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, llama_source: Path) -> Folders:
    """Gives folder and GGUF of a random model."""
    root = tmp_path_factory.mktemp("tiny")
    return lambda architecture: write_folder_and_gguf(architecture, root, llama_source)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def options(folder: Path) -> CalibrationOptions:
    """Four sequences of 128 tokens."""
    return CalibrationOptions(text=write_text(folder), tokens=512, sequence_length=128)


def run_calibration(model: Path, gguf_file: Path, target: Path, chosen: CalibrationOptions) -> Statistics:
    source = open_gguf(gguf_file)
    return calibrate(source, model, matrices(source), target, chosen, THREADS, Progress())


def plain_moments(
    folder: Path, gguf_file: Path, chosen: CalibrationOptions
) -> dict[tuple[str, int], tuple[int, NDArray[np.float64]]]:
    """Tokens and mean of x xᵀ in float64 for each linear module, by GGUF tensor and expert: hooks on the model."""
    source = open_gguf(gguf_file)
    tokens = make_sequences(load_model(folder, source, chosen, THREADS), chosen).tokens
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
        for sequence in tokens:
            model(sequence[None])
    return {key: (sum(map(len, pieces)), (x := np.concatenate(pieces)).T @ x / len(x)) for key, pieces in given.items()}


def known(statistics: Statistics, name: str, expert: int = 0) -> NDArray[np.float32]:
    moments = statistics.moments(name, expert)
    assert moments is not None
    return moments


def difference(got: NDArray[np.floating] | None, true: NDArray[np.floating]) -> float:
    assert got is not None
    return float(np.linalg.norm(got - true) / np.linalg.norm(true))


def assert_same(a: Statistics, b: Statistics, tolerance: float) -> None:
    assert set(a.tensor_names) == set(b.tensor_names)
    for name in a.tensor_names:
        assert a.counts(name).tolist() == b.counts(name).tolist()
        for expert in range(len(a.counts(name))):
            true = b.moments(name, expert)
            assert true is not None and difference(a.moments(name, expert), true) <= tolerance, name


@pytest.mark.parametrize("architecture", CONFIGS)
def test_moments_are_those_of_plain_hooks(architecture: str, tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny(architecture)
    chosen = options(folder)
    found = run_calibration(model, gguf_file, folder / "s.stats", chosen)
    check_statistics(found, open_gguf(gguf_file))
    true = plain_moments(model, gguf_file, chosen)
    untied = any(t.name == "output.weight" for t in open_gguf(gguf_file).tensors)
    assert set(found.tensor_names) == {t.name for t in matrices(open_gguf(gguf_file))} - (
        {"token_embd.weight"} if untied else set()
    )
    for name in found.tensor_names:
        for expert, count in enumerate(found.counts(name)):
            tokens, moments = true.get((name, expert), (0, np.zeros(())))
            assert count == tokens, name
            if tokens:
                assert difference(found.moments(name, expert), moments) < ROUNDING, name
                assert np.allclose(found.diagonal(name)[expert], np.diag(moments), rtol=1e-4), name
    if untied:
        assert found.notes == ("no statistics for token_embd.weight: its rows are looked up, not multiplied",)


def test_tensors_with_the_same_input_share_it(tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny("mixtral")
    keys = run_calibration(model, gguf_file, folder / "s.stats", options(folder)).input_key
    assert keys("blk.0.attn_q.weight") == keys("blk.0.attn_k.weight") == keys("blk.0.attn_v.weight")
    assert keys("blk.1.ffn_gate_exps.weight") == keys("blk.1.ffn_up_exps.weight")
    assert (
        len({keys(f"blk.{i}.{name}.weight") for i in (0, 1) for name in ("attn_q", "attn_output", "ffn_up_exps")}) == 6
    )


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3", "phi3", "mixtral"])
def test_a_gguf_gives_the_same_as_its_folder(architecture: str, tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny(architecture)
    from_folder = run_calibration(model, gguf_file, folder / "a.stats", options(folder))
    from_gguf = run_calibration(gguf_file, gguf_file, folder / "b.stats", options(folder))
    assert_same(from_gguf, from_folder, ROUNDING)


@pytest.mark.llama_cpp
@pytest.mark.parametrize("architecture", IN_LLAMA_CPP)
def test_diagonals_are_those_of_llama_imatrix(architecture: str, tiny: Folders, folder: Path, programs: Path) -> None:
    """One chunk of text, from the GGUF alone: tokens, routing and squares are those that llama.cpp sees itself."""
    if architecture in CONFIGS:
        gguf_file = tiny(architecture)[1]
    else:
        gguf_file = write_gguf_model(architecture, folder / f"{architecture}.gguf", tiny("llama")[1])
    chosen = replace(options(folder), text=write_text(folder, 30), tokens=256, sequence_length=256)
    found = run_calibration(gguf_file, gguf_file, folder / "s.stats", chosen)
    exact = ("-c", "256", "--chunks", "1", "-fa", "off", "-ctk", "f32", "-ctv", "f32", "-t", "1", "--no-ppl")
    text, imatrix = write_text(folder), folder / "imatrix.gguf"
    run(programs / "llama-imatrix", "-m", gguf_file, "-f", text, "-o", imatrix, "--process-output", *exact)
    true = open_statistics(imatrix)
    check_statistics(true, open_gguf(gguf_file))
    # llama-imatrix leaves tied embeddings out
    assert set(found.tensor_names) - set(true.tensor_names) <= {"token_embd.weight"}
    common = [name for name in true.tensor_names if name in found]
    assert len(common) >= 9
    for name in common:
        assert found.counts(name).tolist() == true.counts(name).tolist()
        assert difference(found.diagonal(name), true.diagonal(name)) < IMATRIX_TOLERANCE.get(architecture, 1e-5), name


@pytest.mark.parametrize("architecture", ["llama", "mixtral"])
def test_little_memory_changes_nothing(architecture: str, tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny(architecture)
    usual = run_calibration(model, gguf_file, folder / "a.stats", options(folder))
    frugal = run_calibration(model, gguf_file, folder / "b.stats", replace(options(folder), memory_limit=1))
    assert_same(frugal, usual, 0)


@pytest.mark.parametrize("memory_limit", [1 << 30, 1 << 18])
def test_models_whose_layers_are_no_chain_are_run_whole(
    memory_limit: int, tiny: Folders, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, gguf_file = tiny("qwen2")
    usual = run_calibration(model, gguf_file, folder / "a.stats", options(folder))
    monkeypatch.setattr(stages, "can_chain", lambda *arguments: False)
    whole = run_calibration(model, gguf_file, folder / "b.stats", replace(options(folder), memory_limit=memory_limit))
    assert_same(whole, usual, ROUNDING)


@pytest.mark.parametrize("architecture", ["gemma3", "llama", "qwen2"])
def test_bfloat16_is_nearly_as_exact(architecture: str, tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny(architecture)
    usual = run_calibration(gguf_file, gguf_file, folder / "a.stats", options(folder))
    half = run_calibration(gguf_file, gguf_file, folder / "b.stats", replace(options(folder), dtype="bfloat16"))
    assert "bfloat16" in half.description and half.tensor_names == usual.tensor_names
    differences = [
        difference(half.moments(name, expert), true)
        for name in usual.tensor_names
        for expert in range(len(usual.counts(name)))
        if (true := usual.moments(name, expert)) is not None
    ]
    assert 0 < max(differences) < 0.1 and np.median(differences) < 0.02
    if architecture != "gemma3":  # its tiny folder has another tokenizer than its GGUF
        again = run_calibration(model, gguf_file, folder / "c.stats", replace(options(folder), dtype="bfloat16"))
        assert_same(again, half, ROUNDING)


def test_all_experts_can_be_shown_all_tokens(tiny: Folders, folder: Path) -> None:
    model, gguf_file = tiny("mixtral")
    routed = run_calibration(model, gguf_file, folder / "a.stats", options(folder))
    shown = run_calibration(model, gguf_file, folder / "b.stats", replace(options(folder), all_experts=True))
    assert "every token shown to all experts" in shown.description
    for layer in (0, 1):
        gate, down = f"blk.{layer}.ffn_gate_exps.weight", f"blk.{layer}.ffn_down_exps.weight"
        assert shown.counts(gate).tolist() == shown.counts(down).tolist() == [512] * 4
        assert routed.counts(gate).sum() == 2 * 512
        # of what every expert is now given, the routed tokens were a part: each token twice
        weights = routed.counts(gate) / (2 * 512)
        assert difference(np.einsum("e,en->n", weights, routed.diagonal(gate)), shown.diagonal(gate)[0]) < ROUNDING
        assert np.array_equal(known(shown, gate, 0), known(shown, gate, 3))
        assert not np.array_equal(known(shown, down, 0), known(shown, down, 3))
    # what the router chose went on to the next layer
    attention = "blk.1.attn_q.weight"
    assert np.array_equal(known(shown, attention), known(routed, attention))
    assert (folder / "b.stats").stat().st_size < (folder / "a.stats").stat().st_size


def test_experts_that_no_token_reached_have_empty_statistics(
    tiny: Folders, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_fixed_router(path: Path, source: Source, options: CalibrationOptions, threads: int) -> LoadedModel:
        loaded = load_model(path, source, options, threads)
        for layer in loaded.network.model.layers:
            layer.block_sparse_moe.gate.forward = lambda x: torch.tensor([0.0, 3, 1, 2]).expand(len(x), 4)
        return loaded

    monkeypatch.setattr("converter.calibrate.calibrate.load_model", with_fixed_router)
    _, gguf_file = tiny("mixtral")
    found = run_calibration(gguf_file, gguf_file, folder / "s.stats", options(folder))
    for name in ("blk.0.ffn_down_exps.weight", "blk.1.ffn_gate_exps.weight"):
        assert found.counts(name).tolist() == [0, 512, 0, 512]
        for expert in (0, 2):
            moments = found.moments(name, expert)
            assert moments is not None and not moments.any() and not found.diagonal(name)[expert].any()
        assert found.experts_short_of_tokens(name) == [0, 2]
    assert sum("2 of 4 experts of" in warning for warning in found.warnings()) == 2 * 3


@pytest.mark.download
def test_bert_like_encoders(folder: Path, llama_source: Path) -> None:
    model, gguf_file = models.minilm(), folder / "minilm.gguf"
    convert_to_gguf(read_hf_folder(model, allow_requantize=False), gguf_file, llama_source, 2, Progress())
    found = run_calibration(model, gguf_file, folder / "s.stats", replace(options(folder), tokens=256, text=None))
    assert len(found.tensor_names) == 36 and found.tokens == 256
    assert found.input_key("blk.0.attn_q.weight") == found.input_key("blk.0.attn_v.weight")
    assert found.counts("blk.5.ffn_down.weight").tolist() == [256]
    assert "perplexity" not in found.description


def test_the_same_options_give_the_same_file(tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    for name in ("a.stats", "b.stats"):
        run_calibration(gguf_file, gguf_file, folder / name, options(folder))
    assert (folder / "a.stats").read_bytes() == (folder / "b.stats").read_bytes()


def test_a_killed_calibration_leaves_the_old_file_and_can_be_started_again(tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    target = folder / "s.stats"
    target.write_bytes(b"old")
    command = [sys.executable, "tools/stats_eoq.py", "collect", str(gguf_file), str(target), "--threads", "1"]
    command += ["--calib", str(write_text(folder)), "--calib-length", "16", "--quiet"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[3]) as process:
        while process.poll() is None and not list(folder.glob(".s.stats.*.part")):
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert target.read_bytes() == b"old"
    assert open_gguf(gguf_file).tensors  # the model is as it was
    subprocess.run(command, cwd=Path(__file__).parents[3], check=True)
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
            time.sleep(0.005)
        process.send_signal(name)
        said = process.communicate()[1].decode()
    assert process.returncode == 128 + name, said
    assert not list(out.iterdir())


def test_statistics_of_another_model_are_refused(tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    found = run_calibration(gguf_file, gguf_file, folder / "s.stats", options(folder))
    with pytest.raises(StatisticsError, match="of another model"):
        check_statistics(found, open_gguf(tiny("qwen2")[1]))


def test_a_folder_of_another_model_is_noticed(tiny: Folders, folder: Path) -> None:
    """The same architecture and shapes, other weights."""
    from tests.samples.tiny_models import write_model

    write_model("llama", folder / "other", seed=1)
    with pytest.raises(CalibrationError, match="none of the tensors to quantise is known to transformers"):
        run_calibration(folder / "other", tiny("llama")[1], folder / "s.stats", options(folder))
    assert not (folder / "s.stats").exists()


def test_an_architecture_that_transformers_cannot_read_from_a_gguf(tiny: Folders, folder: Path) -> None:
    gguf_file = write_gguf_model("modern-bert", folder / "m.gguf", tiny("llama")[1])
    with pytest.raises(CalibrationError, match=r"does not know modern-bert .*folder .*--imatrix .*--rtn"):
        run_calibration(gguf_file, gguf_file, folder / "s.stats", options(folder))


def test_a_device_that_is_not_there(tiny: Folders, folder: Path) -> None:
    _, gguf_file = tiny("llama")
    with pytest.raises(CalibrationError, match=r"cannot use the device 'nonsense'.*choose cpu"):
        run_calibration(gguf_file, gguf_file, folder / "s.stats", replace(options(folder), device="nonsense"))
