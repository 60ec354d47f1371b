"""Sums of x xᵀ."""

import numpy as np
import pytest
import torch

from converter.calibrate.accumulate import _TorchSums, make_accumulator


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("blas", [True, False])
def test_sums_are_those_of_numpy(blas: bool, dtype: torch.dtype) -> None:
    device = torch.device("cpu")
    sums = make_accumulator(48, device) if blas else _TorchSums(48, device)
    random = torch.Generator().manual_seed(1)
    pieces = [torch.randn(rows, 48, generator=random).to(dtype) for rows in (3, 600, 0, 511, 700, 2)]
    x = torch.cat(pieces).double().numpy()
    for piece in pieces:
        sums.add(piece)
        piece.zero_()  # the model may do as it likes with what it was given
    assert sums.count == len(x) == 1816
    upper = np.triu_indices(48)
    true = (x.T @ x)[upper]
    assert np.abs(sums.result()[upper] - true).max() < 1e-6 * np.abs(true).max() * len(x) ** 0.5


def test_nothing_sums_to_zero() -> None:
    sums = make_accumulator(5, torch.device("cpu"))
    assert sums.count == 0 and not sums.result().any()
