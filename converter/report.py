"""What a conversion did: a record for each tensor, and the totals."""

import math
from dataclasses import dataclass
from pathlib import Path

from converter.plan import TensorPlan


@dataclass(frozen=True)
class TensorRecord:
    """What became of one tensor."""

    plan: TensorPlan
    signal: float
    """Sum of the squared weights."""
    error: float
    """Sum of the squared differences between the written weights and those of the source."""
    seconds: float

    @property
    def error_db(self) -> float | None:
        """Error relative to the weights in decibels: -20 dB is a hundredth of their energy. None if there is none."""
        if self.error == 0 or self.signal == 0:
            return None
        return 10 * math.log10(self.error / self.signal)


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion."""

    target: Path
    records: tuple[TensorRecord, ...]
    source_bytes: int
    """Bytes of the source GGUF, of the intermediate one for a Hugging Face folder."""
    target_bytes: int
    seconds: float

    @property
    def weights(self) -> int:
        return sum(r.plan.tensor.weights for r in self.records)

    @property
    def bits_per_weight(self) -> float:
        """Mean over all tensors, metadata aside."""
        return 8 * sum(r.plan.nbytes for r in self.records) / max(1, self.weights)

    @property
    def fallbacks(self) -> tuple[TensorRecord, ...]:
        """Tensors that got another type than the one chosen, since it does not fit their rows."""
        return tuple(r for r in self.records if r.plan.fallback)
