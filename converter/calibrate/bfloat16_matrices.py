"""Large matrices in bfloat16, and all else of a model in float32.

A model that is run in bfloat16 throughout rounds what it adds and compares too: attention with large biases goes wrong
by much more than the matrices' own rounding.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers.pytorch_utils import Conv1D


def use_bfloat16_matrices(model: Any) -> None:
    """Round the weights of linear modules and embeddings, make all else float32, and let those modules give float32."""
    modules: list[Any] = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Embedding | Conv1D)]
    matrices = {id(m.weight) for m in modules}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(torch.bfloat16 if id(tensor) in matrices else torch.float32)
    for module in modules:
        module.forward = _forward_of(module, module.forward)


def _forward_of(module: Any, forward: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    def linear(x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = F.linear(x.to(torch.bfloat16), module.weight).float()
        return product if module.bias is None else product.add_(module.bias)

    def conv1d(x: torch.Tensor) -> torch.Tensor:
        product: torch.Tensor = x.to(torch.bfloat16) @ module.weight
        return product.float().add_(module.bias)

    def embedding(ids: torch.Tensor) -> torch.Tensor:
        return forward(ids).float()

    if isinstance(module, nn.Linear):
        return linear
    return conv1d if isinstance(module, Conv1D) else embedding
