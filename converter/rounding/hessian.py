"""What a tensor's inputs say about its rounding errors, in the rotated basis and ready for error feedback.

A rounding error E of the weights W (rows, n) costs tr(E H Eᵀ) in the tensor's outputs, with H (n, n) the mean of x xᵀ
over the inputs x. Weights are rotated block by block with an orthogonal R before they are rounded, and H with them:
E Rᵀ and R H Rᵀ give the same cost. H = M diag(p) Mᵀ with a unit upper triangular M turns the cost into a sum over
columns, Σⱼ pⱼ ‖(E M)ⱼ‖², of which each column sees only those before it: rounding column j of W + (errors so far) M
to nearest minimises its term. That is the feedback of GPTQ (Frantar et al., 2022) in the form of LDLQ (Chee et al.,
2023), without an inverse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from eoq_formats.rotation import rotate

LARGEST_DAMPING = 1.0


@dataclass(frozen=True)
class BlockFactors:
    """One diagonal block of H, all (w, w) float32 or (w,)."""

    matrix: torch.Tensor
    factor: torch.Tensor
    """M of this block within the whole H: what columns push onto later ones of the block."""
    pivots: torch.Tensor
    own_factor: torch.Tensor
    """M of the block taken by itself, for rounding it again while all others stay."""
    own_pivots: torch.Tensor
    inverse: torch.Tensor
    """Inverse of `matrix`."""


class Hessian(Protocol):
    """The damped H of n inputs in blocks of w, which stand in the order of rounding."""

    order: NDArray[np.intp]
    """Position in the row of the block that is rounded first, second, …"""
    damping: float
    """What was added to the diagonal, relative to its mean."""

    blocks: Sequence[BlockFactors]
    """One for each block, in the order of rounding."""

    def feedback(self, errors: torch.Tensor, number: int) -> torch.Tensor | None:
        """What the errors (rows, n) of earlier blocks add to the weights of this one, (rows, w); None for nothing."""
        ...

    def product(self, errors: torch.Tensor) -> torch.Tensor:
        """E H, (rows, n)."""
        ...

    def add_product(self, change: torch.Tensor, number: int, product: torch.Tensor) -> None:
        """Bring E H up to date in place after E changed by `change` (rows, w) in one block."""
        ...

    def costs(self, errors: torch.Tensor, product: torch.Tensor | None = None) -> NDArray[np.float64]:
        """Row by row e H eᵀ of errors (rows, n), without the damping: (rows,). `product` is E H, where it is known."""
        ...


def rotation_matrix(width: int) -> NDArray[np.float32]:
    """The orthogonal R (w, w) of docs/format.md: R x = F(D x) / √w."""
    rotation: NDArray[np.float32] = rotate(np.eye(width, dtype=np.float32)).T / np.float32(np.sqrt(width))
    return np.ascontiguousarray(rotation)


class FullHessian:
    """H with all its entries."""

    def __init__(self, moments: torch.Tensor, width: int, damping: float) -> None:
        """Second moments (n, n) float32, symmetric. Raises torch.linalg.LinAlgError if H is not positive definite."""
        n = len(moments)
        rotation = torch.from_numpy(rotation_matrix(width)).to(moments.device)
        rotated = (moments.reshape(-1, width) @ rotation.T).reshape(n, n).T.contiguous()
        rotated = (rotated.reshape(-1, width) @ rotation.T).reshape(n, n)
        energy = rotated.diagonal().reshape(-1, width).sum(1).cpu().numpy()
        # the blocks with the largest inputs first, while all others can still make up for their errors
        self.order = np.argsort(-energy, kind="stable")
        columns = torch.from_numpy(_columns(self.order, width)).to(moments.device)
        self._matrix = rotated.index_select(0, columns).index_select(1, columns)
        self.damping = damping
        self._width = width
        self._ridge = damping * float(self._matrix.diagonal().mean())
        self._matrix.diagonal().add_(self._ridge)
        self._factor, self._pivots = _unit_upper_factor(self._matrix)
        self.blocks: Sequence[BlockFactors] = [self._block(start) for start in range(0, n, width)]

    def _block(self, start: int) -> BlockFactors:
        part = slice(start, start + self._width)
        own = self._matrix[part, part].contiguous()
        factor, pivots = self._factor[part, part].contiguous(), self._pivots[part].contiguous()
        return BlockFactors(own, factor, pivots, *_unit_upper_factor(own), _inverse(own))

    def feedback(self, errors: torch.Tensor, number: int) -> torch.Tensor | None:
        start = number * self._width
        return errors[:, :start] @ self._factor[:start, start : start + self._width] if number else None

    def product(self, errors: torch.Tensor) -> torch.Tensor:
        return errors @ self._matrix

    def add_product(self, change: torch.Tensor, number: int, product: torch.Tensor) -> None:
        product.addmm_(change, self._matrix[number * self._width : (number + 1) * self._width])

    def costs(self, errors: torch.Tensor, product: torch.Tensor | None = None) -> NDArray[np.float64]:
        return _costs(errors, self.product(errors) if product is None else product, self._ridge)


class DiagonalHessian:
    """H of inputs that are taken to be uncorrelated. Rotated, each of its blocks is full; between them is nothing."""

    def __init__(self, mean_squares: torch.Tensor, width: int, damping: float) -> None:
        """Mean squares (n,) float32. Raises torch.linalg.LinAlgError if H is not positive definite."""
        rotation = torch.from_numpy(rotation_matrix(width)).to(mean_squares.device)
        self.order: NDArray[np.intp] = np.arange(len(mean_squares) // width)
        self.damping = damping
        self._ridge = damping * float(mean_squares.mean())
        diagonals = (mean_squares + self._ridge).reshape(-1, 1, width)
        self._matrices = (rotation * diagonals) @ rotation.T
        self._width = width
        self.blocks: Sequence[BlockFactors] = [_uncoupled(own) for own in self._matrices]

    def feedback(self, errors: torch.Tensor, number: int) -> torch.Tensor | None:
        return None

    def product(self, errors: torch.Tensor) -> torch.Tensor:
        blocks = errors.reshape(len(errors), -1, self._width)
        return torch.einsum("rbi,bij->rbj", blocks, self._matrices).reshape(errors.shape)

    def add_product(self, change: torch.Tensor, number: int, product: torch.Tensor) -> None:
        product[:, number * self._width : (number + 1) * self._width] += change @ self._matrices[number]

    def costs(self, errors: torch.Tensor, product: torch.Tensor | None = None) -> NDArray[np.float64]:
        return _costs(errors, self.product(errors) if product is None else product, self._ridge)


def damped_hessian(moments: torch.Tensor, width: int, damping: float) -> Hessian | None:
    """H from second moments (n, n) or mean squares (n,), with ten times the damping until it can be factorised.

    None if even a damping of LARGEST_DAMPING is not enough, or there is nothing but zeros.
    """
    if not bool(torch.isfinite(moments).all()) or not bool((moments != 0).any()):
        return None
    while damping <= LARGEST_DAMPING:
        try:
            if moments.dim() == 2:
                return FullHessian(moments, width, damping)
            return DiagonalHessian(moments, width, damping)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            damping *= 10
    return None


def _uncoupled(matrix: torch.Tensor) -> BlockFactors:
    """Factors of a block that has nothing to do with the others."""
    factors = _unit_upper_factor(matrix)
    return BlockFactors(matrix, *factors, *factors, _inverse(matrix))


def _columns(order: NDArray[np.intp], width: int) -> NDArray[np.intp]:
    """Columns (n,) of blocks taken in this order."""
    columns: NDArray[np.intp] = (order[:, None] * width + np.arange(width)).reshape(-1)
    return columns


def _unit_upper_factor(matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """M (unit upper triangular) and p with M diag(p) Mᵀ = matrix, from the Cholesky factor of the matrix reversed."""
    upper = torch.linalg.cholesky(matrix.flip(0, 1)).flip(0, 1)
    roots = upper.diagonal()
    return upper / roots, roots * roots


def _inverse(matrix: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.linalg.inv(matrix.double())
    return inverse.float()


def _costs(errors: torch.Tensor, product: torch.Tensor, ridge: float) -> NDArray[np.float64]:
    damped = torch.einsum("ij,ij->i", product, errors).double()
    plain = torch.einsum("ij,ij->i", errors, errors).double()
    costs: NDArray[np.float64] = (damped - ridge * plain).clamp(min=0).cpu().numpy()
    return costs
