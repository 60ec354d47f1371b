"""The results of the ablation as Markdown: all files, methods side by side, and EOQ against llama.cpp's types."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean, geometric_mean
from typing import Any

from bench.quality.ablation_variants import BITS, METHODS, PEERS, PLANNED, TRELLIS_BITS, Variant
from terminal.table import markdown_table

AIMS = {
    "IQ2_XXS": {"EOQ2T": {"news": 0.25, "code": 0.5}},
    "IQ2_S": {"EOQ2": {"news": 0.25}, "EOQ2T": {"news": 0.55, "code": 1.1}},
    "IQ3_XXS": {"EOQ3": {"news": 0.4}, "EOQ3T": {"news": 0.27, "code": 0.42}},
    "IQ3_S": {"EOQ3": {"news": 0.4}, "EOQ3T": {"news": 0.5, "code": 0.85}},
    "IQ4_XS": {"EOQ4": {"news": 0.45}, "EOQ4T": {"news": 0.36, "code": 0.7}},
    "Q5_K_S": {"EOQ5": {"news": 0.62}, "EOQ5T": {"news": 0.33, "code": 0.65}},
}
"""For a type of llama.cpp: the EOQ types that should beat it at no larger size, and for a text the KL divergence that
they may have at most, as a multiple of that type's."""
AIMED_AT = frozenset(text for types in AIMS.values() for aims in types.values() for text in aims)
"""Texts that have aims."""


@dataclass(frozen=True)
class Result:
    """One file on one text."""

    bytes: int
    block_bits_per_weight: float
    kld: float
    kld_error: float
    perplexity_ratio: float
    same_top: float

    @classmethod
    def of(cls, evaluation: Mapping[str, Any]) -> "Result":
        """From `evaluation.report.as_json` of an evaluation of one model."""
        (model,) = evaluation["models"]
        return cls(
            bytes=model["bytes"],
            block_bits_per_weight=model["block_bits_per_weight"],
            kld=model["kld"]["value"],
            kld_error=model["kld"]["error"],
            perplexity_ratio=model["perplexity_ratio"]["value"],
            same_top=model["same_top"]["value"],
        )


Results = Mapping[Variant, Mapping[str, Result]]
"""For each file: the result on each text."""


def _any(results: Mapping[str, Result]) -> Result:
    """Size and the like are the same for all texts."""
    return next(iter(results.values()))


def all_files(results: Results, texts: Sequence[str]) -> str:
    """Every file, by size."""
    head = ["file", "MB", "bpw of blocks"]
    for text in texts:
        head += [f"{text}: KLD", "perplexity over F16", "same top token %"]
    rows = []
    for variant, by_text in sorted(results.items(), key=lambda item: (_any(item[1]).bytes, item[0].name)):
        row = [variant.name, f"{_any(by_text).bytes / 1e6:.1f}", f"{_any(by_text).block_bits_per_weight:.3f}"]
        for text in texts:
            r = by_text.get(text)
            row += (
                [f"{r.kld:.4f} ± {r.kld_error:.4f}", f"{r.perplexity_ratio:.4f}", f"{100 * r.same_top:.1f}"]
                if r
                else [""] * 3
            )
        rows.append(row)
    return markdown_table(head, rows)


def by_method(results: Results, text: str) -> str:
    """KL divergence: a row a type, a column a method."""
    rows = []
    for name in (*(f"EOQ{bits}" for bits in BITS), *(f"EOQ{bits}T" for bits in TRELLIS_BITS)):
        results_by_method = [results.get(Variant(name, method), {}).get(text) for method in METHODS]
        if any(results_by_method):
            rows.append((name, *(f"{r.kld:.4f} ± {r.kld_error:.4f}" if r else "" for r in results_by_method)))
    return markdown_table(("type", *METHODS), rows)


def against_peers(results: Results, texts: Sequence[str], method: str) -> str | None:
    """Each of llama.cpp's types beside the EOQ types that should beat it, and the largest that is no larger than it.

    None if there is no such pair.
    """
    head = [
        "peer",
        "MB",
        "EOQ type",
        "MB",
        *(f"{text}: KLD over the peer's" for text in texts),
        f"aim, {' / '.join(texts)}",
    ]
    rows = []
    for peer, eoq, theirs, ours in _pairs(results, method):
        ratios = [
            f"{ours[text].kld / theirs[text].kld:.3f}" if text in ours and text in theirs else "" for text in texts
        ]
        sizes = [f"{_any(side).bytes / 1e6:.1f}" for side in (theirs, ours)]
        aims = AIMS.get(peer, {}).get(eoq, {})
        wanted = [f"{aims[text]:.2f}" if text in aims else "-" for text in texts]
        rows.append((peer, sizes[0], eoq, sizes[1], *ratios, " / ".join(wanted) if aims else ""))
    return markdown_table(head, rows) if rows else None


def _pairs(results: Results, method: str) -> Iterator[tuple[str, str, Mapping[str, Result], Mapping[str, Result]]]:
    """Peer, EOQ type, results of both: the types of AIMS, the largest no larger, those planned to the peer's size."""
    for peer in PEERS:
        if theirs := results.get(Variant(peer)):
            largest = _largest_within(results, _any(theirs).bytes, method)
            named = [Variant(eoq, method) for eoq in dict.fromkeys((*AIMS.get(peer, {}), largest)) if eoq]
            for variant in (*named, Variant(PLANNED, method, peer)):
                if ours := results.get(variant):
                    yield peer, "planned" if variant.size_of else variant.type, theirs, ours


def _largest_within(results: Results, limit: int, method: str) -> str | None:
    throughout = {v: _any(r).bytes for v, r in results.items() if v.method == method and v.size_of is None}
    sizes = {v.type: size for v, size in throughout.items() if size <= limit}
    return max(sizes, key=lambda name: sizes[name], default=None)


def by_kind(results: Results, texts: Sequence[str]) -> str:
    """KL divergence: a row a file, by size, a column a text; then the mean over the texts and the worst of them."""
    rows = []
    for variant, by_text in sorted(results.items(), key=lambda item: (_any(item[1]).bytes, item[0].name)):
        divergences = {text: by_text[text].kld for text in texts if text in by_text}
        row = [variant.name, f"{_any(by_text).bytes / 1e6:.1f}", *_cells(divergences, texts, 4)]
        rows.append([*row, f"{fmean(divergences.values()):.4f}" if len(divergences) == len(texts) else ""])
        rows[-1].append(_worst(divergences, 4) if len(divergences) == len(texts) else "")
    return markdown_table(("file", "MB", *texts, "mean", "worst"), rows)


def ratios_by_kind(results: Results, texts: Sequence[str], method: str) -> str | None:
    """KL divergence of EOQ over that of the peer, in the pairs of `against_peers`: a column a text, mean and worst.

    The mean is the geometric one. None if there is no such pair.
    """
    rows = []
    for peer, eoq, theirs, ours in _pairs(results, method):
        ratios = {text: ours[text].kld / theirs[text].kld for text in texts if text in ours and text in theirs}
        size = f"{_any(ours).bytes / _any(theirs).bytes:.3f}"
        row = [peer, eoq, size, *_cells(ratios, texts, 3)]
        rows.append([*row, f"{geometric_mean(ratios.values()):.3f}" if len(ratios) == len(texts) else ""])
        rows[-1].append(_worst(ratios, 3) if len(ratios) == len(texts) else "")
    head = ("peer", "EOQ type", "size over the peer's", *texts, "geometric mean", "worst")
    return markdown_table(head, rows) if rows else None


def _cells(values: Mapping[str, float], texts: Sequence[str], digits: int) -> list[str]:
    return [f"{values[text]:.{digits}f}" if text in values else "" for text in texts]


def _worst(values: Mapping[str, float], digits: int) -> str:
    text = max(values, key=lambda name: values[name])
    return f"{values[text]:.{digits}f} ({text})"


def order(results: Results, texts: Sequence[str]) -> str:
    """Whether files that clearly differ on one text come in the same order on the others.

    Two files differ clearly where their divergences are further apart than twice their standard errors together.
    """
    first, *others = texts
    swapped = []
    for text in others:
        known = [(variant, r[first], r[text]) for variant, r in results.items() if first in r and text in r]
        for (a, a_first, a_other), (b, b_first, b_other) in combinations(known, 2):
            difference, other = a_first.kld - b_first.kld, a_other.kld - b_other.kld
            clear = abs(difference) > 2 * (a_first.kld_error + b_first.kld_error)
            other_clear = abs(other) > 2 * (a_other.kld_error + b_other.kld_error)
            if clear and other_clear and difference * other < 0:
                swapped.append(f"{a.name} and {b.name} ({first}, {text})")
    if swapped:
        return "Not in the same order: " + "; ".join(swapped) + "."
    return f"No two files that differ clearly come in another order on {' or '.join(others)} than on {first}."
