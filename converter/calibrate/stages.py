"""The order in which a model's inputs are measured: layer by layer where it can be, else all over the model."""

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from converter.calibrate.accumulate import Accumulator
from converter.calibrate.chain import LayerChain, can_chain, record, run
from converter.calibrate.experts import ExpertGate
from converter.calibrate.inputs import InputWatch, ModelInput
from converter.calibrate.modules import MatchedModule
from converter.calibrate.passes import Probe, measure, split_into_passes


@dataclass(frozen=True)
class Stage:
    """Inputs that are measured together, in one pass over the text or, for want of memory, several."""

    inputs: tuple[ModelInput, ...]
    passes: tuple[tuple[Probe, ...], ...]
    steps: Callable[[bool], Iterator[None]]
    """Runs the text, a sequence a step; called with whether this is the last pass."""
    stop_after: bool = False
    """Whether a step may end once all probes have been reached."""

    def measure(self, number: int, gate: ExpertGate, device: torch.device) -> Generator[None, None, list[Accumulator]]:
        """Run a pass: yields after each sequence, and returns the sums of its probes."""
        last = number == len(self.passes) - 1
        return measure(self.passes[number], lambda: self.steps(last), gate, device, self.stop_after)


def make_stages(
    model: Any, modules: Sequence[MatchedModule], sequences: torch.Tensor, gate: ExpertGate, memory_limit: int
) -> tuple[list[Stage], float | None]:
    """Stages for sequences (count, length), and the model's perplexity on the first of them, where it predicts tokens.

    A model that was read wrongly shows in the latter.
    """

    def stage(inputs: Sequence[ModelInput], steps: Callable[[bool], Iterator[None]], stop_after: bool = False) -> Stage:
        return Stage(tuple(inputs), tuple(map(tuple, split_into_passes(inputs, memory_limit))), steps, stop_after)

    def whole_model(last: bool) -> Iterator[None]:
        for tokens in sequences:
            run(model, tokens)
            yield

    name, layers = _find_layers(model, modules)
    with InputWatch(modules) as watch, gate.opened():
        first = record(model, layers, sequences[0])
        inputs = watch.inputs()
    perplexity = _perplexity(first.result, sequences[0])
    first.result = None
    # any other text will do, such as the same one backwards
    if not can_chain(layers, first, record(model, layers, sequences[0].flip(0))):
        return [stage(inputs, whole_model)], perplexity

    chain = LayerChain(model, layers, first.calls)
    by_layer: list[list[ModelInput]] = [[] for _ in layers]
    elsewhere: list[ModelInput] = []
    for i in inputs:
        number = _layer_number(i.probes[0].name, name)
        (elsewhere if number is None else by_layer[number]).append(i)

    def layer_steps(number: int) -> Callable[[bool], Iterator[None]]:
        return lambda last: chain.run_layer(number, sequences, advance=last)

    stages = [stage(by_layer[number], layer_steps(number)) for number in range(len(layers))]
    if elsewhere:
        stages.append(stage(elsewhere, lambda last: chain.run_rest(sequences), stop_after=True))
    return stages, perplexity


def _find_layers(model: nn.Module, modules: Sequence[MatchedModule]) -> tuple[str, nn.ModuleList]:
    """The list of modules that most of the matched ones are in, with its name; an empty one if there is none."""
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and ".experts" not in name}
    inside = {name: sum(m.name.startswith(f"{name}.") for m in modules) for name in lists}
    name = max(inside, key=lambda name: (inside[name], -len(name)), default=None)
    return (name, lists[name]) if name is not None and inside[name] else ("", nn.ModuleList())


def _layer_number(module: str, layers: str) -> int | None:
    """The layer that a module is in, or None."""
    if not module.startswith(f"{layers}."):
        return None
    return int(module.removeprefix(f"{layers}.").split(".")[0])


def _perplexity(result: Any, tokens: torch.Tensor) -> float | None:
    logits = getattr(result, "logits", None)
    if not isinstance(logits, torch.Tensor) or logits.dim() != 3:
        return None
    loss = torch.nn.functional.cross_entropy(logits[0, :-1].float(), tokens[1:].to(logits.device))
    return math.exp(min(float(loss), 50.0))
