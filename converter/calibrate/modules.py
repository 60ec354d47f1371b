"""Which module of the transformers model multiplies by which tensor of the GGUF."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers.pytorch_utils import Conv1D

from converter.calibrate.names import GgufNames, TensorPart
from gguf_files.names import OUTPUT, TOKEN_EMBEDDINGS
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights

_LEAST_COSINE = 0.99
"""Between the column sums of a module's weights and those of its tensor; bfloat16 leaves 0.9999."""
_PIECE = 1 << 22


@dataclass(frozen=True)
class MatchedModule:
    """A linear module and the tensor, or one expert's part of it, that holds its weights."""

    name: str
    module: nn.Module
    tensor: TensorInfo
    expert: int | None


@dataclass(frozen=True)
class Matches:
    modules: tuple[MatchedModule, ...]
    """In the order of the model; the experts of a tensor are all there, or none."""
    unmatched: dict[str, str]
    """Tensors without a module, and why."""


def match_modules(network: nn.Module, source: Source, tensors: Sequence[TensorInfo], threads: int) -> Matches:
    """Find the linear modules behind the tensors by name, and make sure by their weights."""
    names = GgufNames(source)
    wanted = {t.name: t for t in tensors}
    found: dict[TensorPart, MatchedModule] = {}
    why: dict[str, str] = {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.Linear | Conv1D):
            continue
        part = names.find(f"{name}.weight")
        if part is None or part.tensor not in wanted or part in found:
            continue
        found[part] = MatchedModule(name, module, wanted[part.tensor], part.expert)
    with RowWorkers(threads) as workers:
        weights = SourceWeights(source, workers)
        for part, match in list(found.items()):
            problem = _mismatch(match, weights)
            if problem:
                why[part.tensor] = problem
    for t in tensors:
        parts = [part for part in found if part.tensor == t.name]
        if t.name not in why and len(parts) != t.matrices:
            why[t.name] = (
                f"{len(parts)} of its {t.matrices} experts are linear modules" if parts else _absence(t, source)
            )
    modules = tuple(match for match in found.values() if match.tensor.name not in why)
    return Matches(modules, {t.name: why[t.name] for t in tensors if t.name in why})


def _absence(tensor: TensorInfo, source: Source) -> str:
    if tensor.name == TOKEN_EMBEDDINGS and any(t.name == OUTPUT for t in source.tensors):
        return "its rows are looked up, not multiplied"
    return "transformers has no linear module for it"


def module_weight(module: nn.Module) -> torch.Tensor:
    """The weights (outputs, inputs)."""
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight.T if isinstance(module, Conv1D) else weight


def _mismatch(match: MatchedModule, weights: SourceWeights) -> str:
    """What speaks against a match; empty if nothing does.

    The sums over all rows do not mind the order of the rows, which llama.cpp changes for some architectures, and tell
    any other order of the columns, which the moments would have to follow.
    """
    weight = module_weight(match.module)
    rows, columns = weight.shape
    in_tensor = match.tensor.shape[1] if len(match.tensor.shape) > 1 else 1
    if columns != match.tensor.row_length:
        return f"{match.name} has {columns} inputs, and its rows {match.tensor.row_length} weights"
    if rows != in_tensor and match.expert is not None:
        return f"{match.name} has {rows} outputs, and the tensor {in_tensor} rows"
    common = min(rows, in_tensor)  # vocabularies may be padded
    start = (match.expert or 0) * in_tensor
    stored = np.zeros(columns)
    step = max(1, _PIECE // columns)
    for row in range(0, common, step):
        stored += weights.read(match.tensor, start + row, start + min(row + step, common)).sum(0, dtype=np.float64)
    own = weight[:common].detach().sum(0, dtype=torch.float32).double().cpu().numpy()
    if _cosine(stored, own) < _LEAST_COSINE:
        return f"{match.name} of transformers holds other weights, or in another order"
    return ""


def _cosine(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else 1.0
