"""Where rounded tensors come from."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from converter.plan import TensorPlan
from converter.report import ConversionProgress, TensorRecord
from converter.rounding import RoundedRows, WeightedError
from converter.rounding_method import Rounder
from gguf_files.weights import Bytes


@dataclass(frozen=True)
class RoundedTensor:
    """A tensor on its way into the file."""

    plan: TensorPlan
    pieces: Iterable[Bytes]
    """Its rows in order, uint8 (rows, row bytes) each; to be taken once, before the next tensor."""
    record: Callable[[], TensorRecord]
    """What became of it; known once all pieces are taken."""


class TensorMaker(Protocol):
    """Rounds tensors, in this process or elsewhere."""

    def make(self, plans: Sequence[TensorPlan]) -> Iterator[RoundedTensor]:
        """Each of these once, in any order. Raises NonFiniteWeightError or ScaleOverflowError."""
        ...


class RoundedHere:
    """Rounds one tensor after the other, in their order."""

    def __init__(self, rounder: Rounder, progress: ConversionProgress) -> None:
        self._rounder = rounder
        self._progress = progress

    def make(self, plans: Sequence[TensorPlan]) -> Iterator[RoundedTensor]:
        for plan in plans:
            yield self._tensor(plan)

    def _tensor(self, plan: TensorPlan) -> RoundedTensor:
        started = time.perf_counter()
        cost = self._rounder.cost(plan)
        parts: list[RoundedRows] = []

        def pieces() -> Iterator[Bytes]:
            for rows in self._rounder.rows(plan):
                yield rows.data
                parts.append(rows.without_data())
                self._progress.advance(len(rows.data) * plan.tensor.row_length * cost)

        def record() -> TensorRecord:
            return _record(plan, parts, self._rounder.is_scaled(plan.tensor), time.perf_counter() - started)

        return RoundedTensor(plan, pieces(), record)


def _record(plan: TensorPlan, parts: Sequence[RoundedRows], is_scaled: bool, seconds: float) -> TensorRecord:
    weighted = [part.weighted for part in parts if part.weighted is not None]
    methods = dict.fromkeys(part.method for part in parts)
    notes = list(dict.fromkeys(note for part in parts for note in part.notes))
    if better := sum(part.better_to_nearest for part in parts):
        notes.append(f"{better} of {plan.tensor.rows} rows are better rounded to nearest")
    return TensorRecord(
        plan,
        sum(part.signal for part in parts),
        sum(part.error for part in parts),
        seconds,
        " and ".join(methods) or "copy",
        sum(weighted, start=WeightedError.none()) if weighted else None,
        max((part.damping for part in parts), default=0.0),
        is_scaled,
        tuple(notes),
    )
