"""Statistics as a table to read."""

from collections.abc import Iterator
from dataclasses import dataclass

from converter.statistics.statistics import Statistics


@dataclass(frozen=True)
class TensorSummary:
    """One tensor's statistics in a few numbers, over all its experts."""

    name: str
    row_length: int
    experts: int
    least_tokens: int
    """Of the expert that saw fewest."""
    mean_square: float
    """Of the inputs, over all channels; the mean over the experts that saw any."""
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


def table_lines(statistics: Statistics) -> Iterator[str]:
    """What the file is, a line a tensor, and what to mind."""
    kind = "moments" if statistics.has_moments else "diagonals of moments"
    yield f"{statistics.path}: {kind} of {len(statistics.tensor_names)} tensors, {statistics.tokens:,} tokens"
    yield f"from {statistics.description}"
    yield f"fingerprint of the model: {statistics.fingerprint or 'unknown'}"
    yield f"{'tensor':<32} {'row':>6} {'experts':>7} {'tokens':>8} {'mean square':>11} {'peak':>8}"
    for t in summarise(statistics):
        short = f"  too few tokens: {len(t.short_of_tokens)} experts" if t.short_of_tokens else ""
        yield (
            f"{t.name:<32} {t.row_length:>6} {t.experts:>7} {t.least_tokens:>8} {t.mean_square:>11.4g} "
            f"{t.peak:>8.1f}{short}"
        )
    yield from (f"note: {note}" for note in statistics.notes)
