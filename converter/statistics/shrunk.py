"""Moments shrunk towards their diagonal: less trust in what may be true of the calibration text alone.

Error feedback moves errors to where the inputs of the calibration text have little energy. Inputs of other texts have
some there. Which channels are strong differs little between texts; which go together differs much more. So a part of
the correlations is taken away (the shrinkage of Ledoit and Wolf 2004, with the diagonal as target), a smaller one where
more tokens tell of them. docs/results.md has what it costs on texts like the one of calibration and what it gains on
others.
"""

import numpy as np
from numpy.typing import NDArray

from converter.statistics.derived import DerivedStatistics
from converter.statistics.statistics import Statistics

_MOST, _LEAST = 0.5, 0.2
_TOKENS_FOR_LEAST = 131_072


def shrinkage_by_tokens(tokens: float) -> float:
    """What is best for moments of so many tokens: 0.5 up to 52,000, then falling as their inverse to 0.2 at 131,072.

    Measured with 32,768, 131,072 and 524,288 tokens on one model (docs/results.md); between them it is interpolated.
    """
    return min(_MOST, max(_LEAST, _LEAST * _TOKENS_FOR_LEAST / max(tokens, 1.0)))


class ShrunkStatistics(DerivedStatistics):
    """Moments (1 - shrinkage) M + shrinkage diag(M)."""

    def __init__(self, statistics: Statistics, shrinkage: float | None) -> None:
        """Without a shrinkage, each matrix has that of the tokens which it is of."""
        super().__init__(statistics)
        self.shrinkage = shrinkage

    def moments(self, tensor_name: str, expert: int = 0) -> NDArray[np.float32] | None:
        moments = super().moments(tensor_name, expert)
        return None if moments is None else self._shrunk(moments, self.counts(tensor_name)[expert])

    def pooled_moments(self, tensor_name: str, expert: int) -> NDArray[np.float32]:
        return self._shrunk(super().pooled_moments(tensor_name, expert), self.counts(tensor_name).sum())

    def _shrunk(self, moments: NDArray[np.float32], tokens: float) -> NDArray[np.float32]:
        """`moments` themselves, changed in place."""
        if moments.ndim == 2:
            shrinkage = shrinkage_by_tokens(tokens) if self.shrinkage is None else self.shrinkage
            diagonal = moments.diagonal().copy()
            moments *= np.float32(1 - shrinkage)
            np.fill_diagonal(moments, diagonal)
        return moments
