"""Whether variants of models differ on MMLU: composite scores in pairs, as the EWQ paper (section 6.3.1) compares them.

A variant is one way of quantising, of one model or of several. Two variants are compared over what both were measured
on: models, subjects or questions, each of which is a pair of composite scores.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy import stats

from evaluation.errors import EvaluationError
from evaluation.mmlu.results_file import Results, read_results
from evaluation.mmlu.scores import Choice, Scores, score

PAIRS = ("models", "subjects", "questions")
MOST_WEIGHT = 1e6
_ROUNDING = 1e-12
"""Scatter of float64's own, relative to the scores: differences that vary by less are all the same."""


@dataclass(frozen=True)
class Weights:
    """Of the composite score; the paper has 1 for both. Raises EvaluationError for what weighs nothing."""

    perplexity: float = 1.0
    accuracy: float = 1.0

    def __post_init__(self) -> None:
        both = (self.perplexity, self.accuracy)
        if not all(0 <= weight <= MOST_WEIGHT for weight in both) or not any(both):
            raise EvaluationError(f"the weights must be from 0 to {MOST_WEIGHT:,.0f}, and one of them above 0")

    def __str__(self) -> str:
        return f"{_times(self.perplexity)}ln(perplexity) - {_times(self.accuracy)}accuracy"

    def composite(self, scores: Scores) -> float:
        """ln(perplexity) and accuracy in one number: the lower, the better."""
        return self.perplexity * scores.mean_nll - self.accuracy * scores.accuracy


def _times(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} * "


@dataclass(frozen=True)
class Variant:
    """Results of one variant, by model; one file alone has the name of no model."""

    path: Path
    results: Mapping[str, Results]

    def scores(self) -> Scores:
        """Over all questions of all models."""
        return score([answer[1:] for results in self.results.values() for answer in results.answers])

    def units(self, pairs: str) -> dict[Hashable, list[tuple[Choice, int]]]:
        """Answers by what makes a pair with the same of another variant: one of PAIRS."""
        found: dict[Hashable, list[tuple[Choice, int]]] = {}
        for model, results in self.results.items():
            for number, (subject, choice, answer) in enumerate(results.answers):
                key = {"models": model, "subjects": (model, subject), "questions": (model, number)}[pairs]
                found.setdefault(key, []).append((choice, answer))
        return found


@dataclass(frozen=True)
class Comparison:
    """Two variants: the first's composite scores less the second's."""

    pairs: int
    mean_absolute_difference: float
    mean_difference: float
    """Below 0 where the first variant is better."""
    t: float | None
    """Of the paired t-test; None where it is not defined, as all differences are the same."""
    p: float | None
    """Two-sided."""
    cohens_d: float | None
    """The mean difference over the root mean square of both standard deviations, which divide by n; None where the
    scores do not vary."""

    @property
    def significance(self) -> str:
        """In the words of the paper: the usual bounds of 5 and 10 %."""
        if self.p is None:
            return "not defined"
        return "significant" if self.p < 0.05 else "marginally significant" if self.p < 0.1 else "not significant"

    @property
    def effect(self) -> str:
        """In Cohen's words, by his bounds."""
        if self.cohens_d is None:
            return "not defined"
        bounds = ((0.2, "negligible"), (0.5, "small"), (0.8, "medium"))
        return next((word for bound, word in bounds if abs(self.cohens_d) < bound), "large")


def compare_scores(first: Sequence[float], second: Sequence[float]) -> Comparison:
    """Paired t-test and Cohen's d of composite scores, which pair by their place.

    Raises EvaluationError for fewer than two pairs.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if len(a) != len(b) or len(a) < 2:
        raise EvaluationError(f"a paired t-test needs two pairs at least, not {min(len(a), len(b))}")
    differences = a - b
    noise = _ROUNDING * max(np.abs(a).max(), np.abs(b).max())
    t = p = d = None
    if differences.std(ddof=1) > noise:
        t, p = (float(value) for value in stats.ttest_rel(a, b))
    pooled = math.sqrt((a.var() + b.var()) / 2)  # of the population: the paper's printed figures have n, not n - 1
    if pooled > noise:
        d = float(differences.mean() / pooled)
    return Comparison(len(a), float(np.abs(differences).mean()), float(differences.mean()), t, p, d)


def read_variant(path: Path) -> Variant:
    """From a file of results, or a folder of them, one for each model. Raises EvaluationError."""
    if not path.is_dir():
        return Variant(path, {"": read_results(path)})
    files = sorted(path.glob("*.json"))
    if not files:
        raise EvaluationError(f"the folder {path} holds no results (*.json); put one of each model there")
    return Variant(path, {file.name: read_results(file) for file in files})


def read_variants(paths: Sequence[Path]) -> list[Variant]:
    """Variants that can be compared: of the same models, asked the same questions. Raises EvaluationError."""
    if len({path.is_dir() for path in paths}) > 1:
        raise EvaluationError("compare files with files, or folders with folders, which hold a file of each model")
    first, *others = variants = [read_variant(path) for path in paths]
    for other in others:
        if odd := sorted(first.results.keys() ^ other.results.keys()):
            raise EvaluationError(
                f"{odd[0]} is in one of {first.path} and {other.path} alone; "
                "files of the same model must have the same name in each folder"
            )
        for model, results in other.results.items():
            _check_same_questions(first.results[model], results)
    return variants


def _check_same_questions(first: Results, second: Results) -> None:
    """Raises EvaluationError."""
    asked = [(r.prompts, [(subject, answer) for subject, _, answer in r.answers]) for r in (first, second)]
    if asked[0] != asked[1]:
        raise EvaluationError(
            f"{second.path} has answers to other questions than {first.path}; "
            "ask both models anew, with the same questions, --dev, --shots and --limit"
        )


def composite_scores(variants: Sequence[Variant], pairs: str, weights: Weights) -> list[list[float]]:
    """Of each variant, those of its models, subjects or questions, in the same order. Raises EvaluationError."""
    by_variant = [variant.units(pairs) for variant in variants]
    order = list(by_variant[0])
    if len(order) < 2:
        finer = PAIRS[PAIRS.index(pairs) + 1 :]
        way_out = f"pair by another unit with --pairs ({' or '.join(finer)})" if finer else "ask more questions"
        raise EvaluationError(f"there is one pair of {pairs} alone, and the t-test needs two; {way_out}")
    return [[weights.composite(score(units[key])) for key in order] for units in by_variant]


def compare_all(composites: Sequence[Sequence[float]]) -> list[tuple[int, int, Comparison]]:
    """Each variant with each later one: their numbers, and what came of it."""
    numbers = range(len(composites))
    return [(i, j, compare_scores(composites[i], composites[j])) for i, j in combinations(numbers, 2)]
