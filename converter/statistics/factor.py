"""The one factorisation of a tensor's input moments: error feedback rounds by it, and its error is predicted by it.

A rounding error E of the weights W (rows, n) costs tr(E H Eᵀ) in the tensor's outputs, with H (n, n) the mean of x xᵀ
over the inputs x. Weights are rotated block by block with an orthogonal R before they are rounded, and H with them:
E Rᵀ and R H Rᵀ give the same cost. Blocks are taken in the order of the energy of their inputs, and a ridge is added to
the diagonal (damping). What comes of it is U diag(p) Uᵀ with U unit upper triangular, which turns the cost into a sum
over columns, Σⱼ pⱼ ‖(E U)ⱼ‖² (GPTQ, Frantar et al. 2022, in the form of LDLQ, Chee et al. 2023).

Where only the mean squares of the inputs are known, H is diagonal, and each rotated block is a part of its own.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from eoq_formats.rotation import rotate
from eoq_formats.trellis import chain_order, trellis_code
from eoq_formats.types import WeightType

LARGEST_DAMPING = 1.0


@dataclass(frozen=True)
class Basis:
    """The rotated coordinates of a block, in the order in which they are rounded."""

    width: int
    """Weights of a block."""
    code_bits: int = 0
    """Bits of the codes of a trellis, whose chain is then the order; 0 for the order of positions."""

    @classmethod
    def of(cls, t: WeightType) -> "Basis":
        return cls(t.width, trellis_code(t.bits).code_bits if t.is_trellis else 0)

    @property
    def positions(self) -> NDArray[np.intp]:
        """intp (w,): the position in the block of each coordinate."""
        return chain_order(self.width, self.code_bits) if self.code_bits else np.arange(self.width)


@dataclass(frozen=True)
class Factor:
    """Rotated, ordered and damped moments, in one part (n, n), or in parts of one block each."""

    matrix: torch.Tensor
    """float32 (parts, m, m): R H Rᵀ, blocks in the order of rounding, with the ridge on its diagonal."""
    unit_upper: torch.Tensor
    """float32 (parts, m, m): U."""
    pivots: torch.Tensor
    """float32 (parts, m): p."""
    order: NDArray[np.intp]
    """(blocks of a part,): position in the row of the block that is rounded first, second, …"""
    basis: Basis
    damping: float
    """What was added to the diagonal, relative to its mean."""
    ridge: float
    """What was added to the diagonal."""

    @property
    def width(self) -> int:
        """Weights of a block."""
        return self.basis.width

    @property
    def columns(self) -> torch.Tensor:
        """int64 (m,): the column of H behind each column of a part."""
        return torch.from_numpy(_columns(self.order, self.width)).to(self.matrix.device)


def factorise(moments: torch.Tensor, basis: Basis, damping: float) -> Factor | None:
    """Factorise second moments float32 (n, n), or mean squares (n,), with n a multiple of the basis's width.

    `damping` becomes ten times as much, and again, where that is not enough; None if even LARGEST_DAMPING is not, or
    where there is nothing but zeros or something that is not finite.
    """
    if not bool(torch.isfinite(moments).all()) or not bool((moments != 0).any()):
        return None
    width = basis.width
    parts = torch.diag_embed(moments.reshape(-1, width)) if moments.ndim == 1 else moments[None]
    rotated = rotate_both(parts, rotation_matrix(basis).to(moments.device))
    energy = rotated[0].diagonal().reshape(-1, width).sum(1).cpu().numpy()
    # the blocks with the largest inputs first, while all others can still make up for their errors
    order = np.argsort(-energy, kind="stable")
    columns = torch.from_numpy(_columns(order, width)).to(moments.device)
    matrix = rotated.index_select(1, columns).index_select(2, columns)
    mean, added = float(matrix.diagonal(dim1=1, dim2=2).mean()), 0.0
    while damping <= LARGEST_DAMPING:
        matrix.diagonal(dim1=1, dim2=2).add_(damping * mean - added)
        added = damping * mean
        split = unit_upper_factor(matrix)
        if split is not None:
            return Factor(matrix, *split, order, basis, damping, added)
        damping *= 10
    return None


def unit_upper_factor(matrices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor] | None:
    """U (unit upper triangular) and p with U diag(p) Uᵀ = each matrix (…, m, m); None if one is not positive definite.

    They come from the Cholesky factor of the matrix reversed.
    """
    lower, failed = torch.linalg.cholesky_ex(matrices.flip(-2, -1))
    upper = lower.flip(-2, -1)
    roots = upper.diagonal(dim1=-2, dim2=-1)
    if bool(failed.any()) or not bool(torch.isfinite(roots).all()):
        return None
    return upper / roots[..., None, :], roots * roots


@cache
def rotation_matrix(basis: Basis) -> torch.Tensor:
    """The orthogonal R (w, w) float32 of docs/format.md, its rows in the order of the basis: R x = F(D x) / √w."""
    width = basis.width
    rotation: NDArray[np.float32] = rotate(np.eye(width, dtype=np.float32)).T / np.float32(np.sqrt(width))
    return torch.from_numpy(np.ascontiguousarray(rotation[basis.positions]))


def rotate_both(matrices: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """R A Rᵀ of symmetric A (parts, m, m), with R (w, w) acting on each block of channels."""
    shape, width = matrices.shape, len(rotation)
    once = (matrices.reshape(-1, width) @ rotation.T).reshape(shape)
    return (once.mT.reshape(-1, width) @ rotation.T).reshape(shape)


def _columns(order: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """Columns (m,) of blocks taken in this order."""
    columns: NDArray[np.intp] = (order[:, None] * width + np.arange(width)).reshape(-1)
    return columns
