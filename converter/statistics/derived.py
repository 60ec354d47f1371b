"""Statistics that are others' with something done to them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from converter.statistics.statistics import Statistics


class DerivedStatistics(Statistics):
    """Says all that `statistics` says; subclasses change some of it."""

    def __init__(self, statistics: Statistics) -> None:
        self.statistics = statistics
        self.path = statistics.path
        self.fingerprint = statistics.fingerprint
        self.tokens = statistics.tokens
        self.description = statistics.description
        self.notes = statistics.notes
        self.has_moments = statistics.has_moments

    @property
    def tensor_names(self) -> Sequence[str]:
        return self.statistics.tensor_names

    def input_key(self, tensor_name: str) -> str:
        return self.statistics.input_key(tensor_name)

    def row_length(self, tensor_name: str) -> int:
        return self.statistics.row_length(tensor_name)

    def counts(self, tensor_name: str) -> NDArray[np.float64]:
        return self.statistics.counts(tensor_name)

    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        return self.statistics.diagonal(tensor_name)

    def moments(self, tensor_name: str, expert: int = 0) -> NDArray[np.float32] | None:
        return self.statistics.moments(tensor_name, expert)

    def pooled_moments(self, tensor_name: str, expert: int) -> NDArray[np.float32]:
        return self.statistics.pooled_moments(tensor_name, expert)
