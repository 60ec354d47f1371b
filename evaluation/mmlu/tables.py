"""Scores and comparisons as Markdown tables and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evaluation.mmlu.comparison import Comparison, Variant, Weights
from evaluation.mmlu.scores import Scores
from evaluation.report import names
from terminal.table import markdown_table
from terminal.text import printable


def score_table(subjects: Mapping[str, Scores], total: Scores) -> str:
    """A row for each subject, all questions last."""
    lines = ["| subject | questions | accuracy | perplexity | without an answer |", "|---|--:|--:|--:|--:|"]
    for name, s in [*subjects.items(), ("**all**", total)]:
        lines.append(f"| {printable(name)} | {s.questions} | {s.accuracy:.4f} | {s.perplexity:.4f} | {s.unanswered} |")
    return "\n".join(lines)


def variant_table(variants: Sequence[Variant], composites: Sequence[Sequence[float]]) -> str:
    """A row for each variant: scores over all its questions, and the mean of its composite scores."""
    rows = []
    for name, variant, composite in zip(_names(variants), variants, composites, strict=True):
        s, mean = variant.scores(), sum(composite) / len(composite)
        rows.append((name, str(s.questions), f"{s.accuracy:.4f}", f"{s.perplexity:.4f}", f"{mean:.4f}"))
    return markdown_table(("variant", "questions", "accuracy", "perplexity", "mean composite score"), rows)


def comparison_table(variants: Sequence[Variant], compared: Sequence[tuple[int, int, Comparison]]) -> str:
    """A row for each two variants."""
    head = ("comparison", "pairs", "mean abs. difference", "mean difference", "t", "p", "Cohen's d")
    named = _names(variants)
    return markdown_table(
        head,
        [
            (
                f"{named[i]} - {named[j]}",
                str(c.pairs),
                f"{c.mean_absolute_difference:.4f}",
                f"{c.mean_difference:+.4f}",
                _number(c.t),
                _judged(c.p, c.significance),
                _judged(c.cohens_d, c.effect),
            )
            for i, j, c in compared
        ],
    )


def comparison_json(
    variants: Sequence[Variant],
    composites: Sequence[Sequence[float]],
    compared: Sequence[tuple[int, int, Comparison]],
    pairs: str,
    weights: Weights,
) -> dict[str, Any]:
    """The same, with all digits; what is not defined is null."""
    named = _names(variants)
    return {
        "pairs": pairs,
        "weights": asdict(weights),
        "variants": [
            {
                "name": name,
                "path": str(variant.path),
                "questions": (s := variant.scores()).questions,
                "accuracy": s.accuracy,
                "perplexity": s.perplexity,
                "composite_scores": list(composite),
            }
            for name, variant, composite in zip(named, variants, composites, strict=True)
        ],
        "comparisons": [
            {"first": named[i], "second": named[j]} | asdict(c) | {"significance": c.significance, "effect": c.effect}
            for i, j, c in compared
        ],
    }


def _names(variants: Sequence[Variant]) -> list[str]:
    return names([variant.path for variant in variants])


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.4f}"


def _judged(value: float | None, word: str) -> str:
    return word if value is None else f"{value:.4f}, {word}"
