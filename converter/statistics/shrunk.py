"""Moments shrunk towards their diagonal: less trust in what may be true of the calibration text alone.

Error feedback moves errors to where the inputs of the calibration text have little energy. Inputs of other texts have
some there. Which channels are strong differs little between texts; which go together differs much more. So a part of
the correlations is taken away (the shrinkage of Ledoit and Wolf 2004, with the diagonal as target). docs/results.md has
what it costs on texts like the one of calibration and what it gains on others.
"""

import numpy as np
from numpy.typing import NDArray

from converter.statistics.derived import DerivedStatistics
from converter.statistics.statistics import Statistics


class ShrunkStatistics(DerivedStatistics):
    """Moments (1 - shrinkage) M + shrinkage diag(M)."""

    def __init__(self, statistics: Statistics, shrinkage: float) -> None:
        super().__init__(statistics)
        self.shrinkage = shrinkage

    def moments(self, tensor_name: str, expert: int = 0) -> NDArray[np.float32] | None:
        moments = super().moments(tensor_name, expert)
        return None if moments is None else self._shrunk(moments)

    def pooled_moments(self, tensor_name: str, expert: int) -> NDArray[np.float32]:
        return self._shrunk(super().pooled_moments(tensor_name, expert))

    def _shrunk(self, moments: NDArray[np.float32]) -> NDArray[np.float32]:
        """`moments` themselves, changed in place."""
        if moments.ndim == 2:
            diagonal = moments.diagonal().copy()
            moments *= np.float32(1 - self.shrinkage)
            np.fill_diagonal(moments, diagonal)
        return moments
