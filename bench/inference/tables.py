"""The tables of the speed comparison: all types with their ratios, and what EOQ aims at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.inference.files import LLAMA_TYPES
from bench.spread import Spread
from eoq_formats.types import TRELLIS_BITS
from terminal.table import markdown_table


@dataclass(frozen=True)
class Measured:
    """One type at one number of threads; a value for each round."""

    bytes_per_weight: float
    bytes_per_token: int
    prompt: Spread
    """Tokens a second, read as a prompt."""
    generation: Spread
    """Tokens a second, generated."""

    @property
    def bytes_per_second(self) -> float:
        """Weights that generation reads; the cache of keys and values is not counted."""
        return self.bytes_per_token * self.generation.median


Results = Mapping[str, Measured]
"""By type."""


@dataclass(frozen=True)
class Aim:
    """How fast a type of EOQ should be."""

    test: str
    """`tg` (generation) or `pp` (prompt)."""
    ours: str
    peer: str | None
    """None: whichever of llama.cpp's types is the fastest."""
    ratio: float


AIMS = (
    Aim("tg", "EOQ3", "Q3_K", 1.2),
    Aim("tg", "EOQ4T", "Q4_K", 1.0),
    Aim("tg", "EOQ4T", "IQ4_XS", 1.3),
    Aim("tg", "EOQ3T", "Q3_K", 1.2),
    Aim("tg", "EOQ3T", "IQ3_S", 1.5),
    Aim("tg", "EOQ2T", "Q2_K", 1.2),
    Aim("tg", "EOQ2T", "IQ2_XXS", 1.5),
    Aim("tg", "EOQ5T", "Q5_K", 1.05),
    Aim("tg", "EOQ4", "Q4_K", 1.05),
    Aim("tg", "EOQ4", "IQ4_XS", 1.0),
    Aim("tg", "EOQ5", "Q5_K", 1.05),
    Aim("tg", "EOQ6", "Q6_K", 1.0),
    *(Aim("pp", f"EOQ{bits}T", None, 1.0) for bits in TRELLIS_BITS),
    Aim("pp", "EOQ4", None, 1.0),
    Aim("pp", "EOQ5", None, 1.0),
)


@dataclass(frozen=True)
class Outcome:
    """An aim and what came of it."""

    aim: Aim
    peer: str
    ratio: float
    """Ratio of the medians."""
    by_round: Spread

    @property
    def is_met(self) -> bool:
        return self.ratio >= self.aim.ratio


def outcomes(results: Results) -> list[Outcome]:
    """Outcomes of the aims whose types have been measured."""
    found = []
    for aim in AIMS:
        peer = aim.peer or _fastest_peer(results, aim.test)
        if peer in results and aim.ours in results:
            ours, theirs = _speed(results[aim.ours], aim.test), _speed(results[peer], aim.test)
            found.append(Outcome(aim, peer, ours.median / theirs.median, ours.over(theirs)))
    return found


def _speed(measured: Measured, test: str) -> Spread:
    return measured.generation if test == "tg" else measured.prompt


def _fastest_peer(results: Results, test: str) -> str:
    peers = [name for name in results if name in LLAMA_TYPES]
    return max(peers, key=lambda name: _speed(results[name], test).median, default="")


def speeds(results: Results, bandwidth: Spread, against: Sequence[str], tokens: tuple[int, int]) -> str:
    """All types: size, speeds, share of the bandwidth, and speeds over those of the types in `against`.

    `bandwidth` is in GB/s, `tokens` are those of a prompt and those generated.
    """
    tests = {"pp": f"pp{tokens[0]}", "tg": f"tg{tokens[1]}"}
    baselines = [name for name in against if name in results]
    head = ["type", "bytes a weight", *(f"{test} t/s" for test in tests.values()), "GB/s read", "of bandwidth"]
    head += [f"{test} over {name}" for name in baselines for test in tests.values()]
    rows = []
    for name, m in results.items():
        gigabytes = m.bytes_per_second / 1e9
        row = [name, f"{m.bytes_per_weight:.4f}", m.prompt.text(1), m.generation.text(2)]
        row += [f"{gigabytes:.2f}", f"{gigabytes / bandwidth.median:.0%}"]
        for baseline in baselines:
            row += [f"{_speed(m, t).median / _speed(results[baseline], t).median:.3f}" for t in tests]
        rows.append(row)
    return markdown_table(head, rows)


def aims(results: Results, tokens: tuple[int, int]) -> str | None:
    """What EOQ aims at and what was measured; None if no pair was."""
    numbers = dict(zip(("pp", "tg"), tokens, strict=True))
    rows = [
        (
            f"{o.aim.test}{numbers[o.aim.test]} of {o.aim.ours}",
            o.peer if o.aim.peer else f"{o.peer} (the fastest)",
            f"{o.ratio:.3f}",
            f"{o.by_round.low:.3f}..{o.by_round.high:.3f}",
            f"{o.aim.ratio:.2f}",
            "yes" if o.is_met else "no",
        )
        for o in outcomes(results)
    ]
    return markdown_table(("speed", "over", "ratio", "by round", "aim", "met"), rows) if rows else None
