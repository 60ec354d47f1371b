"""What a conversion did: a record for each tensor, and the totals."""

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from converter.ingest.projector import MadeProjector
from converter.plan import TensorPlan
from converter.rounding.rounded_rows import WeightedError


def decibels(error: float, signal: float) -> float | None:
    """An error relative to what it is an error of; None without one of them, or where float64 has not their ratio."""
    ratio = error / signal if signal > 0 else 0.0
    return 10 * math.log10(ratio) if 0 < ratio < math.inf else None


@dataclass(frozen=True)
class TensorRecord:
    """What became of one tensor."""

    plan: TensorPlan
    signal: float
    """Sum of the squared weights."""
    error: float
    """Sum of the squared differences between the written weights and those of the source."""
    seconds: float
    method: str = "nearest"
    """How its codes were chosen: copy, nearest or feedback."""
    weighted: WeightedError | None = None
    """Errors of the tensor's outputs; None without statistics."""
    damping: float = 0.0
    """Largest that was needed, relative to the mean of the moments' diagonal."""
    is_scaled: bool = False
    """Whether AWQ scales are folded into it."""
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, Any]:
        """All but the plan, in JSON's objects."""
        figures = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "plan"}
        return figures | {"weighted": None if self.weighted is None else asdict(self.weighted)}

    @classmethod
    def of_figures(cls, plan: TensorPlan, figures: Mapping[str, Any]) -> Self:
        """The record that `figures` are of. Raises KeyError, TypeError, ValueError or OverflowError for others."""
        weighted, notes = figures["weighted"], figures["notes"]
        if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
            raise TypeError("notes")
        if not (weighted is None or isinstance(weighted, dict)):
            raise TypeError("weighted")
        return cls(
            plan,
            float(figures["signal"]),
            float(figures["error"]),
            float(figures["seconds"]),
            str(figures["method"]),
            None if weighted is None else WeightedError(**{name: float(value) for name, value in weighted.items()}),
            float(figures["damping"]),
            bool(figures["is_scaled"]),
            tuple(notes),
        )

    @property
    def error_db(self) -> float | None:
        """Error relative to the weights in decibels: -20 dB is a hundredth of their energy. None if there is none."""
        return decibels(self.error, self.signal)


@dataclass(frozen=True)
class FoldRecord:
    """The AWQ scales of a group of tensors."""

    producer: str
    consumers: tuple[str, ...]
    alpha: float
    """Exponent of the inputs' root mean square in the scales."""
    beta: float
    """Exponent of the weights' root mean square, by which they are divided."""
    refined: bool
    """Whether the scales went on from there along the slopes of the expected error."""
    smallest: float
    largest: float
    error_before: float | None
    """Squared error of the consumers' outputs for each token, on a sample of rows; None if not measured."""
    error_after: float | None

    @property
    def is_identity(self) -> bool:
        return self.smallest == self.largest == 1


class StageClock:
    """Seconds that the stages of a conversion take."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.add(name, time.perf_counter() - started)

    def add(self, name: str, seconds: float) -> None:
        self.stages[name] = self.stages.get(name, 0.0) + seconds

    @property
    def total(self) -> float:
        return time.perf_counter() - self._started


@dataclass(frozen=True)
class ConversionReport:
    """The result of a conversion."""

    target: Path
    records: tuple[TensorRecord, ...]
    source_bytes: int
    """Bytes of the source GGUF, of the intermediate one for a Hugging Face folder."""
    target_bytes: int
    seconds: float
    stages: Mapping[str, float] = field(default_factory=dict)
    """Seconds by stage."""
    method: str = "rtn"
    """`eoq.method` of the file's metadata."""
    options: tuple[str, ...] = ()
    """`eoq.options` of the file's metadata."""
    statistics: str | None = None
    """What the statistics were taken from; None without any."""
    folds: tuple[FoldRecord, ...] = ()
    notes: tuple[str, ...] = ()
    """What the user should hear of, not about one tensor alone."""
    coverage: float | None = None
    """The share of the quantised weights in blocks that there were statistics of; None without any."""
    files: tuple[Path, ...] = ()
    """The output: `target`, or its splits."""
    read_back: str | None = None
    """What llama.cpp's own reader said of the finished file."""
    projector: MadeProjector | None = None
    """The file for images and sound that lies beside the output."""

    @property
    def path(self) -> Path:
        """Where the report lies as JSON: beside the output."""
        return report_path(self.target)

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


def report_path(target: Path) -> Path:
    """Where the report of a conversion to `target` goes."""
    return target.with_name(f"{target.name.removesuffix('.gguf')}.report.json")
