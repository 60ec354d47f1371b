"""The results of the ablation as Markdown: all files, methods side by side, and EOQ against llama.cpp's types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from bench.quality.ablation_variants import BITS, METHODS, PEERS, TRELLIS_BITS, Variant
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
    for peer in PEERS:
        theirs = results.get(Variant(peer))
        if not theirs:
            continue
        named = AIMS.get(peer, {})
        largest = _largest_within(results, _any(theirs).bytes, method)
        for eoq in dict.fromkeys((*named, largest)):
            ours = results.get(Variant(eoq, method)) if eoq else None
            if not ours:
                continue
            ratios = [
                f"{ours[text].kld / theirs[text].kld:.3f}" if text in ours and text in theirs else "" for text in texts
            ]
            sizes = [f"{_any(side).bytes / 1e6:.1f}" for side in (theirs, ours)]
            aims = named.get(str(eoq), {})
            wanted = [f"{aims[text]:.2f}" if text in aims else "-" for text in texts]
            rows.append((peer, sizes[0], str(eoq), sizes[1], *ratios, " / ".join(wanted) if aims else ""))
    return markdown_table(head, rows) if rows else None


def _largest_within(results: Results, limit: int, method: str) -> str | None:
    sizes = {v.type: _any(r).bytes for v, r in results.items() if v.method == method and _any(r).bytes <= limit}
    return max(sizes, key=lambda name: sizes[name], default=None)


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
    return f"No two files that differ clearly come in another order on {' than on '.join(reversed(texts))}."
