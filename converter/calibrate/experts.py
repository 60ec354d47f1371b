"""Showing every token to every expert, for the statistics alone."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class ExpertGate:
    """Tells the hooks of a model whether what they see now counts."""

    def __init__(self, model: nn.Module, all_experts: bool) -> None:
        self._blocks = list(_expert_blocks(model)) if all_experts else []
        self._members = {m for block in self._blocks for m in block.experts.modules()}
        self._showing = False

    def counts(self, module: nn.Module) -> bool:
        """Whether an input of the module that comes now belongs into the statistics."""
        return self._showing or module not in self._members

    @contextmanager
    def opened(self) -> Iterator[None]:
        """While inside, every expert is shown all that comes to its layer."""
        hooks = [block.register_forward_pre_hook(self._show) for block in self._blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _show(self, block: Any, arguments: tuple[torch.Tensor, ...]) -> None:
        tokens = arguments[0].flatten(0, -2)
        self._showing = True
        try:
            for expert in block.experts:
                expert(tokens)
        finally:
            self._showing = False


def _expert_blocks(model: nn.Module) -> Iterable[Any]:
    return (m for m in model.modules() if isinstance(getattr(m, "experts", None), nn.ModuleList))
