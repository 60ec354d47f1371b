"""Running a model layer by layer, all sequences through one layer before the next."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""Relative difference between two ways to the same hidden states."""


class ReachedError(Exception):
    """Ends a run of the model where no more of it is needed."""


@dataclass
class LayerCall:
    """What a layer was called with."""

    hidden: torch.Tensor
    arguments: tuple[Any, ...]
    """Positional arguments after the hidden states."""
    keywords: dict[str, Any]
    returns_tuple: bool = False


@dataclass
class RecordedRun:
    """One sequence's way through the layers."""

    calls: list[LayerCall]
    end: torch.Tensor
    """What the last layer returned."""
    result: Any
    """What the model returned."""


def run(model: Any, tokens: torch.Tensor) -> Any:
    """Run one sequence (length,) through the whole model, for its hooks."""
    return model(input_ids=tokens[None].to(model.device), use_cache=False)


def _call(arguments: tuple[Any, ...], keywords: dict[str, Any]) -> LayerCall:
    if arguments:
        return LayerCall(arguments[0], arguments[1:], dict(keywords))
    rest = dict(keywords)
    return LayerCall(rest.pop("hidden_states"), (), rest)


def _output(result: Any) -> torch.Tensor:
    found = result[0] if isinstance(result, tuple) else result
    assert isinstance(found, torch.Tensor)
    return found


class LayerChain:
    """The hidden states of all sequences, between one layer and the next."""

    def __init__(self, model: Any, layers: nn.ModuleList, calls: Sequence[LayerCall]) -> None:
        self._model = model
        self._layers = layers
        self._calls = calls
        self._hidden: list[torch.Tensor] = []

    def run_layer(self, number: int, sequences: torch.Tensor, advance: bool) -> Iterator[None]:
        """Run all sequences through a layer, a sequence a step; `advance` to what flows into the next."""
        if not self._hidden:
            self._start(sequences)
        call = self._calls[number]
        for i, hidden in enumerate(self._hidden):
            found = _output(self._layers[number](hidden, *call.arguments, **call.keywords))
            if advance:
                self._hidden[i] = found
            yield

    def _start(self, sequences: torch.Tensor) -> None:
        """Compute what flows into the first layer."""

        def keep(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            self._hidden.append(_call(arguments, keywords).hidden)
            raise ReachedError

        with _hooked(self._layers[0], keep):
            for tokens in sequences:
                _run_to_the_end(self._model, tokens)

    def run_rest(self, sequences: torch.Tensor) -> Iterator[None]:
        """Run what lies before and after the layers, a sequence a step. Hooks may end a step by ReachedError."""
        for tokens, hidden in zip(sequences, self._hidden, strict=True):
            with _bypassed(self._layers, hidden, [call.returns_tuple for call in self._calls]):
                _run_to_the_end(self._model, tokens)
            yield


def record(model: Any, layers: nn.ModuleList, tokens: torch.Tensor) -> RecordedRun:
    """Run a sequence (length,) and keep what the layers were called with."""
    found = RecordedRun([], torch.empty(0), None)

    def before(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        found.calls.append(_call(arguments, keywords))

    def after(module: nn.Module, arguments: tuple[Any, ...], result: Any) -> None:
        found.calls[-1].returns_tuple = isinstance(result, tuple)
        found.end = _output(result)

    hooks = [layer.register_forward_pre_hook(before, with_kwargs=True) for layer in layers]
    hooks += [layer.register_forward_hook(after) for layer in layers]
    try:
        found.result = run(model, tokens)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def can_chain(layers: nn.ModuleList, mine: RecordedRun, other: RecordedRun) -> bool:
    """Whether the layers do the same to another sequence when called as they were for mine.

    They do unless a layer is given more of the text than the hidden states, or the layers are not a chain.
    """
    if len(mine.calls) != len(layers) or len(other.calls) != len(layers):
        return False
    expected = [*(call.hidden for call in other.calls[1:]), other.end]
    for layer, call, given, true in zip(layers, mine.calls, other.calls, expected, strict=True):
        found = _output(layer(given.hidden, *call.arguments, **call.keywords))
        if found.shape != true.shape:
            return False
        error = torch.linalg.vector_norm((found - true).float()) / torch.linalg.vector_norm(true.float())
        if not error < _TOLERANCE[true.dtype]:
            return False
    return True


def _run_to_the_end(model: Any, tokens: torch.Tensor) -> None:
    try:
        run(model, tokens)
    except ReachedError:
        return


@contextmanager
def _hooked(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _bypassed(layers: nn.ModuleList, end: torch.Tensor, as_tuple: Sequence[bool]) -> Iterator[None]:
    """Let the layers return what they are given, and the last one `end`, without any work."""

    def forward_of(number: int) -> Any:
        def forward(*arguments: Any, **keywords: Any) -> Any:
            hidden = end if number == len(layers) - 1 else _call(arguments, keywords).hidden
            return (hidden,) if as_tuple[number] else hidden

        return forward

    for number, layer in enumerate(layers):
        layer.forward = forward_of(number)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
