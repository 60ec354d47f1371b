"""Statistics as a table to read."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics.statistics import Statistics


@dataclass(frozen=True)
class TensorSummary:
    """One tensor's statistics in a few numbers, over all its experts."""

    name: str
    row_length: int
    experts: int
    least_tokens: int
    """Tokens of the expert that saw fewest."""
    mean_square: float
    """Mean square of the inputs over all channels; the mean over the experts that saw any."""
    peak: float
    """Mean square of the strongest channel, relative to the mean over all."""
    short_of_tokens: tuple[int, ...]
    """Experts that saw too few tokens for their statistics to say much."""
    is_full: bool
    """Whether all moments are known and not just their diagonal."""


def summarise(statistics: Statistics) -> Iterator[TensorSummary]:
    """A summary of every tensor."""
    for name in statistics.tensor_names:
        counts, diagonal = statistics.counts(name), statistics.diagonal(name)
        seen = diagonal[counts > 0]
        means = seen.mean(axis=1)
        yield TensorSummary(
            name,
            statistics.row_length(name),
            len(counts),
            int(counts.min()),
            float(means.mean()) if len(seen) else 0.0,
            float((seen.max(axis=1) / means.clip(min=1e-30)).max()) if len(seen) else 0.0,
            tuple(statistics.experts_short_of_tokens(name)),
            statistics.has_moments,
        )


def difference(a: Statistics, b: Statistics, tensor_name: str, expert: int = 0) -> float:
    """How far the moments of one input are apart: ‖A − B‖ / ‖A‖, all channels scaled to equal strength in A.

    Of the diagonals where one of the two knows no more.
    """
    first, second = a.diagonal(tensor_name)[expert], b.diagonal(tensor_name)[expert]
    scales = np.sqrt(np.maximum(first, np.finfo(np.float32).tiny))
    full_first, full_second = a.moments(tensor_name, expert), b.moments(tensor_name, expert)
    if full_first is None or full_second is None:
        return _relative(first / scales**2, (first - second) / scales**2)
    outer = np.outer(scales, scales).astype(np.float32)
    return _relative(full_first / outer, (full_first - full_second) / outer)


def _relative(whole: NDArray[np.floating], part: NDArray[np.floating]) -> float:
    size = float(np.linalg.norm(whole))
    return float(np.linalg.norm(part)) / size if size else 0.0


def comparison_lines(a: Statistics, b: Statistics) -> Iterator[str]:
    """A line for each input that both know: the difference between their moments, of the worst expert."""
    yield f"{'input':<32} {'row':>6} {'difference':>10}"
    done = set()
    for name in a.tensor_names:
        if name not in b or a.input_key(name) in done:
            continue
        done.add(a.input_key(name))
        if a.row_length(name) != b.row_length(name) or len(a.counts(name)) != len(b.counts(name)):
            raise StatisticsError(f"{a.path} and {b.path} are of different models: their {name} differ in shape")
        worst = max(difference(a, b, name, expert) for expert in range(len(a.counts(name))))
        yield f"{name:<32} {a.row_length(name):>6} {100 * worst:>8.2f} %"


def table_lines(statistics: Statistics) -> Iterator[str]:
    """What the file is, a line a tensor, and what to mind."""
    kind = "moments" if statistics.has_moments else "diagonals of moments"
    yield f"{statistics.path}: {kind} of {len(statistics.tensor_names)} tensors, {statistics.tokens:,} tokens"
    yield f"from {statistics.description}"
    yield f"fingerprint of the model: {statistics.fingerprint or 'unknown'}"
    yield f"{'tensor':<32} {'row':>6} {'experts':>7} {'tokens':>8} {'mean square':>11} {'peak':>8}"
    for t in summarise(statistics):
        short = "  too few tokens" if t.short_of_tokens else ""
        if short and t.experts > 1:
            short += f": {len(t.short_of_tokens)} of {t.experts} experts"
        yield (
            f"{t.name:<32} {t.row_length:>6} {t.experts:>7} {t.least_tokens:>8} {t.mean_square:>11.4g} "
            f"{t.peak:>8.1f}{short}"
        )
    yield from (f"note: {note}" for note in statistics.notes)
