"""What rounding will cost under given channel scales, before a weight is rounded.

After rotation the rounding errors of a block are white: uncorrelated, with a variance in proportion to the block's mean
squared weight. So only two things count: A_b, the squared weights of block b summed over rows, and how strongly the
errors at each rotated channel i reach the outputs, d_i:

    error = (mean squared error of the codebook) * sum over blocks b of A_b / width * sum over i in b of d_i

Rounding to nearest has d = diag(M) for the inputs' moments M. Error feedback has the conditional variances d = p of
M = U diag(p) Uᵀ (converter.statistics.factor): what no later column can make up for (QuIP, Chee et al. 2023, sec. 3).
Scaling column j by s_j multiplies its squared weights by s_j^2 and divides row and column j of M by s_j. Both errors
are smooth in s, so the best scales of a group follow from their slopes, without a search.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from converter.statistics.factor import Basis, Factor, factorise, rotate_both, rotation_matrix

Vector = NDArray[np.float64]


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
        """Error of error feedback over that of the codebook on N(0, 1); infinity where M cannot be factorised."""
        factor = factorise(self._scaled(scales, device), Basis(self.width), damping)
        return math.inf if factor is None else float(self._block_weights(scales) @ _variances(factor))

    def feedback_slopes(self, scales: Vector, damping: float, device: str = "cpu") -> Slopes | None:
        """Slopes of the error that `feedback` gives, or None where that is infinite. Four times its work."""
        moments = self._scaled(scales, device)
        factor = factorise(moments, Basis(self.width), damping)
        if factor is None:
            return None
        cost = self.energies * scales**2 * np.repeat(_variances(factor), self.width) / self.width
        return Slopes(_reach(moments, factor, self._block_weights(scales)), cost)

    def _block_weights(self, scales: Vector) -> Vector:
        """float64 (blocks,): A_b / width"""
        blocks: Vector = (self.energies * scales**2).reshape(-1, self.width).mean(axis=1)
        return blocks

    def _scaled(self, scales: Vector, device: str) -> torch.Tensor:
        """The moments of the inputs divided by the scales."""
        moments = torch.from_numpy(self.moments).to(device)
        inverse = (1 / torch.from_numpy(scales)).to(moments)
        return moments * inverse * inverse if moments.ndim == 1 else moments * inverse[:, None] * inverse


def _variances(factor: Factor) -> Vector:
    """float64 (blocks,): p summed over each block, in the order of the row."""
    pivots = torch.empty_like(factor.pivots, dtype=torch.float64)
    pivots[:, factor.columns] = factor.pivots.double()
    return pivots.reshape(-1, factor.width).sum(dim=1).cpu().numpy()


def _reach(moments: torch.Tensor, factor: Factor, block_weights: Vector) -> Vector:
    """float64 (n,): minus half the derivative, by each log s_j, of the sum of block_weights times variances.

    From d p_i = (U^-1 dM U^-T)_ii, with dM = -(dlog s M + M dlog s) and the change of the damping. `moments` are those
    that were factorised.
    """
    parts = torch.diag_embed(moments.reshape(-1, factor.width)) if moments.ndim == 1 else moments[None]
    columns, unit_upper = factor.columns, factor.unit_upper
    each = torch.from_numpy(np.repeat(block_weights, factor.width)).to(unit_upper).reshape(len(unit_upper), -1)
    # the sum is tr(C U^-1 dM U^-T), C diagonal
    identity = torch.eye(unit_upper.shape[-1], device=unit_upper.device).expand_as(unit_upper)
    inverse = torch.linalg.solve_triangular(unit_upper, identity, upper=True, unitriangular=True)
    inverse *= each[:, columns].sqrt()[..., None]
    sensitivity = torch.empty_like(unit_upper)
    sensitivity[:, columns[:, None], columns] = inverse.mT @ inverse
    back = rotation_matrix(factor.basis).T.to(moments.device)
    reached = (rotate_both(sensitivity, back) * parts).sum(dim=2)
    diagonal = parts.diagonal(dim1=1, dim2=2)
    trace = sensitivity.diagonal(dim1=1, dim2=2).sum()
    damped = reached + trace * factor.damping / diagonal.numel() * diagonal
    return damped.reshape(-1).double().cpu().numpy()
