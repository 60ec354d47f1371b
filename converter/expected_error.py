"""What rounding will cost under given channel scales, before a weight is rounded.

After rotation the rounding errors of a block are white: uncorrelated, with a variance in proportion to the block's mean
squared weight. So only two things count: A_b, the squared weights of block b summed over rows, and how strongly the
errors at each rotated channel i reach the outputs, d_i:

    error = (mean squared error of the codebook) * sum over blocks b of A_b / width * sum over i in b of d_i

Rounding to nearest has d = diag(M) for the inputs' moments M. Error feedback has the conditional variances d = diag(D)
of M = U D U', U unit upper triangular: what no later column can make up for (Chee et al. 2023, QuIP, section 3).
Scaling column j by s_j multiplies its squared weights by s_j^2 and divides row and column j of M by s_j. Both errors
are smooth in s, so the best scales of a group follow from their slopes, without a search.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from eoq_formats.rotation import rotate

Vector = NDArray[np.float64]

_MOST_DAMPING = 1.0


@dataclass(frozen=True)
class Slopes:
    """How the error changes with the logarithm of each scale: d error / d log s_j = 2 (weights_j - inputs_j)."""

    inputs: Vector
    """float64 (n,): what larger scales save."""
    weights: Vector
    """float64 (n,): what larger scales cost."""


@dataclass(frozen=True)
class RoundedInput:
    """An input and the weights that it meets, in one block width."""

    moments: NDArray[np.float32]
    """float32 (n, n), or (n,) where only the diagonal is known and inputs are taken to be uncorrelated."""
    energies: Vector
    """float64 (n,): squared weights of each input channel, summed over rows."""
    width: int
    """Weights of a block; n is a multiple of it."""

    def nearest(self, scales: Vector) -> float:
        """Error of rounding to nearest over that of the codebook on N(0, 1), for scales float64 (n,)."""
        diagonal = self.moments if self.moments.ndim == 1 else np.diagonal(self.moments)
        inputs = (diagonal / scales**2).reshape(-1, self.width).sum(axis=1)
        return float(self._block_weights(scales) @ inputs)

    def feedback(self, scales: Vector, damping: float, device: str = "cpu") -> float:
        """Error of error feedback over that of the codebook on N(0, 1), blocks with the largest inputs first.

        `damping` is added to the diagonal, relative to its mean, ten times as much where that is not enough. Returns
        infinity where M cannot be factorised even so.
        """
        factor = self._factor(scales, damping, device)
        return math.inf if factor is None else float(self._block_weights(scales) @ factor.variances)

    def feedback_slopes(self, scales: Vector, damping: float, device: str = "cpu") -> Slopes | None:
        """Slopes of the error that `feedback` gives, or None where that is infinite. Four times its work."""
        factor = self._factor(scales, damping, device)
        if factor is None:
            return None
        cost = self.energies * scales**2 * np.repeat(factor.variances, self.width) / self.width
        return Slopes(factor.reach(self._block_weights(scales)), cost)

    def _block_weights(self, scales: Vector) -> Vector:
        """float64 (blocks,): A_b / width"""
        blocks: Vector = (self.energies * scales**2).reshape(-1, self.width).mean(axis=1)
        return blocks

    def _factor(self, scales: Vector, damping: float, device: str) -> "_Factor | None":
        known = torch.from_numpy(self.moments).to(device)
        # without correlations, each block by itself
        parts = torch.diag_embed(known.reshape(-1, self.width)) if known.ndim == 1 else known[None]
        inverse = (1 / torch.from_numpy(scales)).to(parts).reshape(len(parts), -1)
        return _factorised(parts * inverse[:, None, :] * inverse[:, :, None], self.width, damping)


@dataclass(frozen=True)
class _Factor:
    """M = V V' with V = U sqrt(D), for one or more independent parts of M, each with its blocks in another order."""

    moments: torch.Tensor
    """float32 (parts, m, m), not rotated, not damped."""
    root: torch.Tensor
    """V, rotated, columns in the order of rounding."""
    columns: torch.Tensor
    """int64 (m,): the column of M behind each of V."""
    width: int
    damping: float

    @property
    def variances(self) -> Vector:
        """float64 (blocks,): d summed over each block."""
        squares = torch.empty_like(self.root[..., 0], dtype=torch.float64)
        squares[:, self.columns] = self.root.diagonal(dim1=1, dim2=2).double().square()
        return squares.reshape(-1, self.width).sum(dim=1).cpu().numpy()

    def reach(self, block_weights: Vector) -> Vector:
        """float64 (n,): minus half the derivative, by each log s_j, of the sum of block_weights times variances.

        From d D_ii = (U^-1 dM U^-T)_ii, with dM = -(dlog s M + M dlog s) and the change of the damping.
        """
        each = torch.from_numpy(np.repeat(block_weights, self.width)).to(self.root).reshape(len(self.root), -1)
        # U^-1 = sqrt(D) V^-1; the sum is tr(C U^-1 dM U^-T), C diagonal
        identity = torch.eye(self.root.shape[-1], device=self.root.device).expand_as(self.root)
        inverse = torch.linalg.solve_triangular(self.root, identity, upper=True)
        inverse *= (self.root.diagonal(dim1=1, dim2=2) * each[:, self.columns].sqrt())[..., None]
        sensitivity = torch.empty_like(self.root)
        sensitivity[:, self.columns[:, None], self.columns] = inverse.mT @ inverse
        reached = (_apply_both(sensitivity, _rotation(self.width).T) * self.moments).sum(dim=2)
        diagonal = self.moments.diagonal(dim1=1, dim2=2)
        trace = sensitivity.diagonal(dim1=1, dim2=2).sum()
        damped = reached + trace * self.damping / diagonal.numel() * diagonal
        return damped.reshape(-1).double().cpu().numpy()


def _factorised(moments: torch.Tensor, width: int, damping: float) -> _Factor | None:
    """The factor of moments float32 (parts, m, m), which may be damped more than asked for."""
    rotated = _apply_both(moments, _rotation(width))
    mean = rotated.diagonal(dim1=1, dim2=2).mean()
    energies = rotated[0].diagonal().reshape(-1, width).sum(dim=1)
    order = torch.argsort(energies, descending=True, stable=True)
    columns = (order[:, None] * width + torch.arange(width, device=order.device)).reshape(-1)
    # the last column first: then Cholesky's lower triangle is V reversed
    backwards = rotated[:, columns.flip(0)[:, None], columns.flip(0)]
    added = 0.0
    while damping <= _MOST_DAMPING:
        backwards.diagonal(dim1=1, dim2=2).add_((damping - added) * mean)
        added = damping
        root, failed = torch.linalg.cholesky_ex(backwards)
        if not bool(failed.any()) and bool(root.diagonal(dim1=1, dim2=2).sum().isfinite()):
            return _Factor(moments, root.flip(1, 2), columns, width, damping)
        damping *= 10
    return None


@cache
def _rotation(width: int) -> torch.Tensor:
    """float32 (width, width), orthonormal: a row vector times it is rotated."""
    return torch.from_numpy(rotate(np.eye(width, dtype=np.float32)) / np.float32(math.sqrt(width)))


def _apply_both(matrices: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """R' A R of symmetric A (parts, m, m), R acting on each block of channels."""
    shape, rotation = matrices.shape, rotation.to(matrices)
    once = (matrices.reshape(-1, len(rotation)) @ rotation).reshape(shape)
    return (once.mT.reshape(-1, len(rotation)) @ rotation).reshape(shape)
