"""Several measurements of one thing: median, and from where to where they go."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """At least one value."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(tuple(values))

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def low(self) -> float:
        return min(self.values)

    @property
    def high(self) -> float:
        return max(self.values)

    def over(self, other: "Spread") -> "Spread":
        """The ratios of values measured in the same round."""
        return Spread(tuple(a / b for a, b in zip(self.values, other.values, strict=True)))

    def text(self, decimals: int) -> str:
        """Such as `12.3 (11.9..12.4)`; the median alone if there is one value only."""
        if len(self.values) == 1:
            return f"{self.median:.{decimals}f}"
        return f"{self.median:.{decimals}f} ({self.low:.{decimals}f}..{self.high:.{decimals}f})"
