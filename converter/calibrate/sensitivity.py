"""How much an error of a tensor's outputs costs at the logits, by one gradient for all tensors.

A small change e of the output of a matrix changes the distribution of the next token by the divergence e' F e / 2, F
the Fisher information: the mean of g g' over gradients g of the log-probability of tokens drawn from the model itself.
Rounding errors are uncorrelated with g and proportional to the squared weights of a row, so for errors of the fraction
r of each token's output the divergence is r times

    sensitivity = 1/2 * mean over tokens of (sum over rows o of g_o^2 * |w_o|^2 / |W|^2) * |W x|^2

The mean is one of products: the first tokens have huge outputs in the first blocks, and gradients next to nothing.

This is the slope of the linearity theorem (Malinovskii et al. 2024, HIGGS), with one backward pass in place of noise
injected into one tensor after the other, and for errors of outputs rather than of weights: error feedback makes the
errors of one token nearly independent of another's. Noise in the weights is the same for all tokens, and where
attention takes a mean of them (attn_v) its effect is up to three times what this says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from converter.calibrate.load import WAYS_OUT, load_model
from converter.calibrate.modules import MatchedModule, match_modules, module_weight
from converter.calibrate.sequences import make_sequences
from converter.errors import CalibrationError
from converter.options import CalibrationOptions
from converter.torch_settings import torch_settings
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress


class Watch:
    """Sums over the tokens that a module saw. Its hooks live as long as the model."""

    def __init__(self, matched: MatchedModule) -> None:
        self.matched = matched
        weight = module_weight(matched.module).detach()
        rows = weight.float().square().sum(1)
        self.shares = (rows / rows.sum().clamp_min(torch.finfo(torch.float32).tiny)).double()
        self.sum = 0.0
        matched.module.register_forward_hook(self._forward)

    def _forward(self, module: Any, arguments: Any, output: torch.Tensor) -> None:
        if not output.requires_grad:
            return
        bias = getattr(module, "bias", None)
        with torch.no_grad():
            product = output if bias is None else output - bias
            energies = product.double().square().sum(-1)

        def backward(gradient: torch.Tensor) -> None:
            shares = self.shares.to(gradient.device)
            self.sum += float((gradient.double().square() @ shares * energies).sum())

        output.register_hook(backward)  # type: ignore[no-untyped-call]

    def sensitivity(self, tokens: int) -> float:
        """Nats a token for a relative error of 1; `tokens` is the number that the model saw."""
        return 0.5 * self.sum / tokens


def measure_sensitivity(
    source: Source,
    model_path: Path,
    tensors: Sequence[TensorInfo],
    options: CalibrationOptions,
    threads: int,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Sensitivity by tensor name: KL divergence in nats a token for an error as large as the tensor's whole output.

    All activations of one sequence are held at a time. Tensors that transformers has no module for are left out; those
    of experts have their sum. Raises CalibrationError.
    """
    progress = progress or Progress()
    with torch_settings(threads, gradients=True):
        progress.stage("loading the model for sensitivities", 0)
        loaded = load_model(model_path, source, options, threads)
        loaded.network.requires_grad_(False)
        if not hasattr(loaded.network, "get_output_embeddings") or loaded.network.get_output_embeddings() is None:
            raise CalibrationError(
                f"{model_path} gives no logits, so sensitivities cannot be measured; leave --sensitivity out"
            )
        matches = match_modules(loaded.network, source, tensors, threads)
        if not matches.modules:
            raise CalibrationError(
                f"none of the tensors to plan for is known to transformers in {model_path}; {WAYS_OUT}"
            )
        sequences = make_sequences(loaded, options).tokens
        watches = [Watch(matched) for matched in matches.modules]
        # gradients of activations alone: they start at the embeddings
        loaded.network.get_input_embeddings().register_forward_hook(lambda m, a, output: output.requires_grad_(True))
        generator = torch.Generator(loaded.network.device).manual_seed(options.seed)
        progress.stage("sensitivities", len(sequences))
        for tokens in sequences:
            _backward(loaded.network, tokens[None].to(loaded.network.device), generator)
            progress.advance(1)
    found: dict[str, float] = {}
    for watch in watches:
        name = watch.matched.tensor.name
        found[name] = found.get(name, 0.0) + watch.sensitivity(sequences.numel())
    return found


def _backward(model: Any, tokens: torch.Tensor, generator: torch.Generator) -> None:
    """Gradients of the log-probabilities of tokens that are drawn from the model's own distribution."""
    logits = model(input_ids=tokens, use_cache=False).logits[0].float()
    with torch.no_grad():
        drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
    torch.nn.functional.cross_entropy(logits, drawn, reduction="sum").backward()  # type: ignore[no-untyped-call]
