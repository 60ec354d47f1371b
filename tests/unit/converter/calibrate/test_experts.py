"""Showing all tokens to all experts."""

from collections.abc import Callable

import torch
from torch import nn

from converter.calibrate.experts import ExpertGate


class Block(nn.Module):
    """The first expert takes all."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.experts[0](x)
        return found


def counted(gate: ExpertGate, block: Block, x: torch.Tensor) -> list[int]:
    counts = [0, 0, 0]

    def hook_of(number: int) -> Callable[[nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
            counts[number] += len(arguments[0].flatten(0, -2)) if gate.counts(module) else 0

        return hook

    hooks = [expert.register_forward_pre_hook(hook_of(i)) for i, expert in enumerate(block.experts)]
    with gate.opened():
        block(x)
    for hook in hooks:
        hook.remove()
    return counts


def test_every_token_counts_once_for_every_expert() -> None:
    block = Block()
    x = torch.randn(2, 5, 4)
    assert counted(ExpertGate(block, all_experts=True), block, x) == [10, 10, 10]
    assert counted(ExpertGate(block, all_experts=False), block, x) == [10, 0, 0]
    gate = ExpertGate(block, all_experts=True)
    assert not gate.counts(block.experts[0]) and gate.counts(block)


def test_results_stay_the_same() -> None:
    block = Block()
    x = torch.randn(5, 4)
    before = block(x)
    with ExpertGate(block, all_experts=True).opened():
        assert torch.equal(block(x), before)
