"""The damped moments of a tensor's inputs as error feedback works with them: block by block, in the rotated basis.

converter.statistics.factor says what H is, how it is rotated, ordered and damped, and why.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from converter.statistics.factor import Basis, Factor, factorise, unit_upper_factor


@dataclass(frozen=True)
class BlockFactors:
    """One diagonal block of H, all (w, w) float32 or (w,)."""

    matrix: torch.Tensor
    factor: torch.Tensor
    """U of this block within the whole H: what columns push onto later ones of the block."""
    pivots: torch.Tensor
    own_factor: torch.Tensor
    """U of the block taken by itself, for rounding it again while all others stay."""
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


class FullHessian:
    """H with all its entries, from a factor in one part."""

    def __init__(self, factor: Factor) -> None:
        self.order = factor.order
        self.damping = factor.damping
        self._matrix, self._factor, self._pivots = factor.matrix[0], factor.unit_upper[0], factor.pivots[0]
        self._width, self._ridge = factor.width, factor.ridge
        self.blocks: Sequence[BlockFactors] = [self._block(start) for start in range(0, len(self._matrix), self._width)]

    def _block(self, start: int) -> BlockFactors:
        part = slice(start, start + self._width)
        own = self._matrix[part, part].contiguous()
        factor, pivots = self._factor[part, part].contiguous(), self._pivots[part].contiguous()
        return BlockFactors(own, factor, pivots, *_factor_of_block(own), _inverse(own))

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

    def __init__(self, factor: Factor) -> None:
        self.order: NDArray[np.intp] = np.arange(len(factor.matrix))
        self.damping = factor.damping
        self._matrices, self._width, self._ridge = factor.matrix, factor.width, factor.ridge
        self.blocks: Sequence[BlockFactors] = [
            BlockFactors(own, unit_upper, pivots, unit_upper, pivots, _inverse(own))
            for own, unit_upper, pivots in zip(factor.matrix, factor.unit_upper, factor.pivots, strict=True)
        ]

    def feedback(self, errors: torch.Tensor, number: int) -> torch.Tensor | None:
        return None

    def product(self, errors: torch.Tensor) -> torch.Tensor:
        blocks = errors.reshape(len(errors), -1, self._width)
        return torch.einsum("rbi,bij->rbj", blocks, self._matrices).reshape(errors.shape)

    def add_product(self, change: torch.Tensor, number: int, product: torch.Tensor) -> None:
        product[:, number * self._width : (number + 1) * self._width] += change @ self._matrices[number]

    def costs(self, errors: torch.Tensor, product: torch.Tensor | None = None) -> NDArray[np.float64]:
        return _costs(errors, self.product(errors) if product is None else product, self._ridge)


def damped_hessian(moments: torch.Tensor, basis: Basis, damping: float) -> Hessian | None:
    """H from second moments float32 (n, n) or mean squares (n,); None where they cannot be factorised."""
    factor = factorise(moments, basis, damping)
    if factor is None:
        return None
    return FullHessian(factor) if moments.ndim == 2 else DiagonalHessian(factor)


def _factor_of_block(own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    factors = unit_upper_factor(own)
    assert factors is not None, "a diagonal block of a positive definite matrix is positive definite"
    return factors


def _inverse(matrix: torch.Tensor) -> torch.Tensor:
    inverse: torch.Tensor = torch.linalg.inv(matrix.double())
    return inverse.float()


def _costs(errors: torch.Tensor, product: torch.Tensor, ridge: float) -> NDArray[np.float64]:
    damped = torch.einsum("ij,ij->i", product, errors).double()
    plain = torch.einsum("ij,ij->i", errors, errors).double()
    costs: NDArray[np.float64] = (damped - ridge * plain).clamp(min=0).cpu().numpy()
    return costs
