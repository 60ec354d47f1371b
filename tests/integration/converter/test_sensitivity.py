"""Sensitivities of a random model beside what noise in its outputs really does to its logits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType

from converter.calibrate.load import LoadedModel, load_model
from converter.calibrate.modules import MatchedModule, match_modules
from converter.calibrate.sensitivity import Watch, measure_sensitivity
from converter.calibrate.sequences import make_sequences
from converter.options import CalibrationOptions
from gguf_files.source import open_gguf
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress
from tests.samples.tiny_sources import matrices, write_folder_and_gguf, write_text


def divergence(loaded: LoadedModel, tokens: torch.Tensor, base: torch.Tensor) -> float:
    """KL divergence in nats a token."""
    with torch.no_grad():
        logits = loaded.network(input_ids=tokens).logits.double().log_softmax(-1)
    return float((base.exp() * (base - logits)).sum(-1).mean())


def with_noise(module: torch.nn.Module, share: float, generator: torch.Generator) -> Callable[[], None]:
    """Add errors to the module's weights, uncorrelated and in proportion to its rows, of a share of their squares."""
    weight = module.weight
    assert isinstance(weight, torch.nn.Parameter)
    kept = weight.detach().clone()
    sizes = kept.square().mean(1, keepdim=True).sqrt()
    weight.data += sizes * share**0.5 * torch.randn(weight.shape, generator=generator)

    def restore() -> None:
        weight.data = kept

    return restore


def energy(module: torch.nn.Module, output: torch.Tensor) -> float:
    """Of the product alone."""
    bias = module.bias
    assert bias is None or isinstance(bias, torch.Tensor)
    return float((output if bias is None else output - bias).square().sum())


@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_the_divergence_of_small_errors_is_predicted(architecture: str, tmp_path: Path, llama_source: Path) -> None:
    folder, gguf_file = write_folder_and_gguf(architecture, tmp_path, llama_source)
    options = CalibrationOptions(text=write_text(tmp_path), tokens=512, sequence_length=64)
    source = open_gguf(gguf_file)
    targets = matrices(source)
    found = measure_sensitivity(source, folder, targets, options, 1, Progress())
    loaded = load_model(folder, source, options, 1)
    loaded.network.requires_grad_(False)
    tokens = make_sequences(loaded, options).tokens
    with torch.no_grad():
        base = loaded.network(input_ids=tokens).logits.double().log_softmax(-1)
    generator = torch.Generator().manual_seed(1)
    ratios = {}
    for matched in match_modules(loaded.network, source, targets, 1).modules:
        outputs: list[float] = []
        hook = matched.module.register_forward_hook(
            lambda module, arguments, output, outputs=outputs: outputs.append(energy(module, output))
        )
        inputs: list[float] = []
        before = matched.module.register_forward_pre_hook(
            lambda module, arguments, inputs=inputs: inputs.append(float(arguments[0].square().sum()))
        )
        share, trials = 1e-4, 6
        measured = 0.0
        for _ in range(trials):
            restore = with_noise(matched.module, share, generator)
            measured += divergence(loaded, tokens, base) / trials
            restore()
        loaded.network(input_ids=tokens)
        hook.remove()
        before.remove()
        # white errors in the weights are an error of this share of the output
        weight = matched.module.weight
        assert isinstance(weight, torch.Tensor)
        relative = share * inputs[-1] * float(weight.square().sum()) / weight.shape[1] / outputs[-1]
        ratios[matched.tensor.name] = found[matched.tensor.name] * relative / measured
    assert set(ratios) == set(found)
    # noise in tied embeddings also changes what goes in; a random model's attention takes means of values, in which
    # noise that is the same for all tokens counts more than the formula says (about 0.4 and 0.7)
    ratios.pop("token_embd.weight", None)
    values = [ratio for name, ratio in ratios.items() if "attn_v" in name]
    others = [ratio for name, ratio in ratios.items() if "attn_v" not in name]
    assert all(0.25 < ratio < 1.3 for ratio in values), ratios
    # six draws of noise and one of labels
    assert all(0.65 < ratio < 1.35 for ratio in others), ratios
    assert 0.9 < sum(others) / len(others) < 1.1, ratios


def test_products_are_taken_token_by_token() -> None:
    """A token with huge outputs and no gradient, as the first one in the first blocks, counts for nothing."""
    generator = np.random.default_rng(3)
    module = torch.nn.Linear(8, 5).double()
    inputs, gradients = generator.standard_normal((7, 8)), generator.standard_normal((7, 5))
    inputs[0] *= 1e3
    gradients[0] = 0.0
    tensor = TensorInfo("blk.0.attn_v.weight", (8, 5), GGMLQuantizationType.F32)
    watch = Watch(MatchedModule("v", module, tensor, None))
    module(torch.from_numpy(inputs).requires_grad_()).backward(torch.from_numpy(gradients))
    weight = module.weight.detach().numpy()
    rows = np.square(weight).sum(1)
    expected = 0.5 * np.mean(np.square(gradients) @ (rows / rows.sum()) * np.square(inputs @ weight.T).sum(1))
    assert watch.sensitivity(len(inputs)) == pytest.approx(expected, rel=1e-6)  # rows are summed in float32


def test_experts_add_up(tmp_path: Path, llama_source: Path) -> None:
    folder, gguf_file = write_folder_and_gguf("mixtral", tmp_path, llama_source)
    options = CalibrationOptions(text=write_text(tmp_path), tokens=256, sequence_length=64)
    source = open_gguf(gguf_file)
    found = measure_sensitivity(source, folder, matrices(source), options, 1, Progress())
    assert any(name.endswith("_exps.weight") for name in found)
    assert all(value > 0 for value in found.values())
