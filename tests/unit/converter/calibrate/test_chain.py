"""Running layer by layer, on small networks in place of language models."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from converter.calibrate.chain import LayerChain, can_chain, record

WIDTH = 8
SEQUENCES = torch.arange(30).reshape(5, 6)


class Layer(nn.Module):
    def __init__(self, as_tuple: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.as_tuple = as_tuple

    def forward(self, hidden_states: torch.Tensor, shift: torch.Tensor) -> Any:
        found = hidden_states + torch.tanh(self.linear(hidden_states) + shift)
        return (found,) if self.as_tuple else found


class Network(nn.Module):
    """Embeddings, layers and a head, with the kinds of calls that models make."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.kind = kind
        self.embeddings = nn.Embedding(30, WIDTH)
        self.layers = nn.ModuleList(Layer(kind == "tuples") for _ in range(3))
        self.head = nn.Linear(WIDTH, 30)
        self.device = torch.device("cpu")

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        assert not use_cache
        hidden = self.embeddings(input_ids)
        shift = torch.ones(WIDTH)
        if self.kind == "text in every layer":
            shift = 3 * hidden
        for layer in self.layers:
            found = layer(hidden, shift) if self.kind == "tuples" else layer(hidden_states=hidden, shift=shift)
            hidden = found[0] if self.kind == "tuples" else found
        if self.kind == "work between layers":
            hidden = hidden * 2
        return SimpleNamespace(logits=self.head(hidden))


def inputs_of(module: nn.Module) -> list[torch.Tensor]:
    """What a module is given from now on."""
    seen: list[torch.Tensor] = []

    def keep(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        seen.append(arguments[0].clone())

    module.register_forward_pre_hook(keep)
    return seen


@pytest.mark.parametrize("kind", ["keywords", "tuples"])
@torch.inference_mode()
def test_layers_see_what_they_see_in_the_model(kind: str) -> None:
    network = Network(kind)
    first = record(network, network.layers, SEQUENCES[0])
    assert can_chain(network.layers, first, record(network, network.layers, SEQUENCES[0].flip(0)))
    modules = [*(layer.get_submodule("linear") for layer in network.layers), network.head]
    true = []
    for module in modules:
        seen = inputs_of(module)
        for tokens in SEQUENCES:
            network(tokens[None], use_cache=False)
        true.append([*seen])
    chain = LayerChain(network, network.layers, first.calls)
    for number, module in enumerate(modules[:-1]):
        seen = inputs_of(module)
        for _ in chain.run_layer(number, SEQUENCES, advance=False):
            pass
        again = list(seen)
        seen.clear()
        assert sum(1 for _ in chain.run_layer(number, SEQUENCES, advance=True)) == len(SEQUENCES)
        assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(true[number], again, seen, strict=True))
    seen = inputs_of(network.head)
    for _ in chain.run_rest(SEQUENCES):
        pass
    assert all(torch.equal(a, b) for a, b in zip(true[-1], seen, strict=True))
    # nothing stays behind
    assert torch.equal(network(SEQUENCES[:1], use_cache=False).logits, first.result.logits)


@torch.inference_mode()
def test_layers_that_are_no_chain_are_noticed() -> None:
    network = Network("text in every layer")
    first, other = (record(network, network.layers, tokens) for tokens in (SEQUENCES[0], SEQUENCES[0].flip(0)))
    assert not can_chain(network.layers, first, other)
    assert not can_chain(nn.ModuleList(), first, other)
