"""How much is measured at once: passes over the text whose moments fit into memory together."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from converter.calibrate.accumulate import Accumulator, make_accumulator
from converter.calibrate.chain import ReachedError
from converter.calibrate.experts import ExpertGate
from converter.calibrate.inputs import ModelInput
from converter.calibrate.modules import MatchedModule


@dataclass(frozen=True)
class Probe:
    """One set of moments to be measured."""

    module: MatchedModule
    n: int

    @property
    def nbytes(self) -> int:
        return self.n * self.n * 4


def split_into_passes(inputs: Sequence[ModelInput], memory_limit: int) -> list[list[Probe]]:
    """All probes of the inputs, in order, in as few passes as the limit allows; one pass at least."""
    passes: list[list[Probe]] = [[]]
    held = 0
    for i in inputs:
        for module in i.probes:
            probe = Probe(module, i.layout.row_length)
            if passes[-1] and held + probe.nbytes > memory_limit:
                passes.append([])
                held = 0
            passes[-1].append(probe)
            held += probe.nbytes
    return passes


def measure(
    probes: Sequence[Probe],
    steps: Callable[[], Iterator[None]],
    gate: ExpertGate,
    device: torch.device,
    stop_after: bool,
) -> Generator[None, None, list[Accumulator]]:
    """Yields after each step of the text; returns the sums, one for each probe.

    `stop_after`: end each step once all probes have been reached.
    """
    sums = [make_accumulator(probe.n, device) for probe in probes]
    reached: set[int] = set()

    def hook_of(number: int) -> Any:
        def add(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            if not gate.counts(module):
                return
            sums[number].add(arguments[0].flatten(0, -2))
            reached.add(number)
            if stop_after and len(reached) == len(sums):
                raise ReachedError

        return add

    hooks = [probe.module.module.register_forward_pre_hook(hook_of(i)) for i, probe in enumerate(probes)]
    try:
        with gate.opened():
            for _ in steps():
                reached.clear()
                yield
    finally:
        for hook in hooks:
            hook.remove()
    return sums
