"""Which tensors are fed by the same input."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from converter.calibrate.modules import MatchedModule
from converter.statistics.moments_file import InputLayout


@dataclass(frozen=True)
class ModelInput:
    """One input of the model, measured at one module (of each expert)."""

    layout: InputLayout
    probes: tuple[MatchedModule, ...]
    """The modules whose input is taken: one, or one of each expert, in their order; one where experts share."""


class InputWatch:
    """Remembers what each module was given while the model runs once. A context."""

    def __init__(self, modules: Sequence[MatchedModule]) -> None:
        self._modules = modules
        self._seen: dict[str, tuple[int, int]] = {}
        self._kept: list[torch.Tensor] = []

    def __enter__(self) -> "InputWatch":
        self._hooks = [m.module.register_forward_pre_hook(self._hook(m.name)) for m in self._modules]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._kept.clear()

    def _hook(self, name: str) -> Any:
        def remember(module: Any, arguments: tuple[torch.Tensor, ...]) -> None:
            # kept alive, so that no later tensor gets the same address
            self._kept.append(arguments[0])
            self._seen.setdefault(name, (arguments[0].data_ptr(), arguments[0].numel()))

        return remember

    def inputs(self) -> list[ModelInput]:
        """The inputs in the order of the modules."""
        of_tensor: dict[str, list[MatchedModule]] = {}
        for m in self._modules:
            of_tensor.setdefault(m.tensor.name, []).append(m)
        groups: dict[tuple[object, ...], list[str]] = {}
        for tensor, modules in of_tensor.items():
            modules.sort(key=lambda m: m.expert or 0)
            seen = [self._seen.get(m.name) for m in modules]
            # experts that were never asked tell nothing of what they share with others
            signature = tuple(seen) if any(seen) else (tensor,)
            groups.setdefault(signature, []).append(tensor)
        return [self._input(tensors, of_tensor[tensors[0]]) for tensors in groups.values()]

    def _input(self, tensors: Sequence[str], probes: Sequence[MatchedModule]) -> ModelInput:
        seen = {self._seen.get(m.name) for m in probes}
        shared = len(probes) > 1 and len(seen) == 1 and None not in seen
        key, length = tensors[0].removesuffix(".weight"), probes[0].tensor.row_length
        layout = InputLayout(key, length, len(probes), shared, tuple(tensors))
        return ModelInput(layout, tuple(probes[:1] if shared else probes))
