"""Sums of x xᵀ in float32."""

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.blas import ssyrk

_ROWS = 512
"""Inputs worth one update of the sums; fewer are kept until there are as many. Experts see a few at a time."""


class Accumulator(Protocol):
    """Sums over the inputs of one tensor or one expert."""

    count: int

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs (tokens, n) of any float type."""

    def result(self) -> NDArray[np.float32]:
        """The sum of x xᵀ, (n, n), valid on and above the diagonal."""
        ...


def make_accumulator(n: int, device: torch.device) -> Accumulator:
    return _BlasSums(n) if device.type == "cpu" else _TorchSums(n, device)


class _Sums:
    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[torch.Tensor] = []
        self._rows = 0

    def add(self, inputs: torch.Tensor) -> None:
        self.count += len(inputs)
        if len(inputs) >= _ROWS:
            self._update(inputs.float())
            return
        self._waiting.append(inputs.float().clone())  # the model may go on to change it in place
        self._rows += len(inputs)
        if self._rows >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._update(torch.cat(self._waiting))
        self._waiting, self._rows = [], 0

    def _update(self, inputs: torch.Tensor) -> None:
        raise NotImplementedError


class _BlasSums(_Sums):
    """ssyrk computes one triangle only: half the work of a matrix product."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self._sums = np.zeros((n, n), dtype=np.float32, order="F")

    def _update(self, inputs: torch.Tensor) -> None:
        columns = inputs.contiguous().numpy().T
        # the lower triangle column by column is the upper one row by row
        self._sums = ssyrk(1.0, columns, beta=1.0, c=self._sums, lower=1, overwrite_c=1)

    def result(self) -> NDArray[np.float32]:
        self._flush()
        return self._sums.T


class _TorchSums(_Sums):
    def __init__(self, n: int, device: torch.device) -> None:
        super().__init__()
        self._sums = torch.zeros((n, n), dtype=torch.float32, device=device)

    def _update(self, inputs: torch.Tensor) -> None:
        torch.addmm(self._sums, inputs.T, inputs, out=self._sums)

    def result(self) -> NDArray[np.float32]:
        self._flush()
        found: NDArray[np.float32] = self._sums.cpu().numpy()
        return found
