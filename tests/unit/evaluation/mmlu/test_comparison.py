"""Comparisons of variants: the figures that the EWQ paper prints (section 6.3.1), and results that are no two."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evaluation.errors import EvaluationError
from evaluation.mmlu.comparison import Comparison, Weights, compare_scores, composite_scores, read_variants
from evaluation.mmlu.results_file import read_results
from evaluation.mmlu.scores import Scores
from tests.integration.options.tools import done, refused

FAST_8BIT = ((0.6826, 2.2379), (0.6894, 3.1906), (0.6461, 4.3702), (0.6238, 4.104))
FAST_MIXED = ((0.6833, 2.2332), (0.688, 3.2203), (0.6458, 4.2577), (0.6253, 4.0964))
TRAIN_8BIT = ((0.6822, 2.2379), (0.6876, 3.1827), (0.647, 4.3397), (0.6238, 4.0879))
TRAIN_MIXED = ((0.6824, 2.2325), (0.6875, 3.2126), (0.6453, 4.2561), (0.6246, 4.1334))
"""Accuracy and perplexity of four models, as the paper prints them (table 10)."""
Measured = tuple[tuple[float, float], ...]


def composites(measured: Measured, weights: Weights | None = None) -> list[float]:
    weights = weights or Weights()
    return [weights.composite(Scores(14042, accuracy, math.log(perplexity), 0)) for accuracy, perplexity in measured]


@pytest.mark.parametrize(
    ("first", "second", "difference", "t", "p", "d"),
    [
        # the paper prints 0.0031 for the first: docs/eval_mmlu.md
        (FAST_8BIT + FAST_MIXED, TRAIN_8BIT + TRAIN_MIXED, 0.0032, 0.2551, 0.806, 0.0016),
        (FAST_8BIT, TRAIN_8BIT, 0.0032, 1.6215, 0.2034, 0.0107),
        (FAST_MIXED, TRAIN_MIXED, 0.0031, -0.825, 0.4699, -0.0076),
    ],
)
def test_the_paper_s_figures(
    first: Measured, second: Measured, difference: float, t: float, p: float, d: float
) -> None:
    found = compare_scores(composites(first), composites(second))
    assert found.t is not None and found.p is not None and found.cohens_d is not None
    figures = (found.mean_absolute_difference, found.t, found.p, found.cohens_d)
    assert [round(figure, 4) for figure in figures] == [difference, t, p, d]
    assert (found.significance, found.effect) == ("not significant", "negligible")
    assert found.pairs == len(first)


scores = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=2, max_size=30)


@given(scores)
def test_it_is_scipy_s_t_test_wherever_that_is_defined(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    found = compare_scores(a, b)
    differences = np.subtract(a, b)
    if found.t is None:
        assert found.p is None and np.ptp(differences) <= 1e-10
        return
    expected = stats.ttest_rel(a, b)
    assert (found.t, found.p) == (expected.statistic, expected.pvalue)
    # by the definition: the mean over its standard error, both of the differences
    by_hand = differences.mean() / (differences.std(ddof=1) / math.sqrt(len(pairs)))
    assert found.t == pytest.approx(by_hand, rel=1e-6, abs=1e-9)


def test_what_is_not_defined_is_said() -> None:
    same = compare_scores([1.0, 2.0], [1.0, 2.0])
    assert (same.t, same.p, same.significance, same.cohens_d) == (None, None, "not defined", 0)
    shifted = compare_scores([0.1, 0.2, 0.3], [0.2, 0.3, 0.4])  # 0.1 apart but for rounding
    assert shifted.t is None and shifted.cohens_d == pytest.approx(-0.1 / (0.01 * 2 / 3) ** 0.5)
    constant = compare_scores([1.0, 1.0], [2.0, 2.0])
    assert (constant.t, constant.cohens_d, constant.effect) == (None, None, "not defined")
    for few in ([], [1.0]):
        with pytest.raises(EvaluationError, match="needs two pairs"):
            compare_scores(few, few)


@pytest.mark.parametrize(
    ("p", "word"),
    [
        (0.0499, "significant"),
        (0.05, "marginally significant"),
        (0.0999, "marginally significant"),
        (0.1, "not significant"),
        (None, "not defined"),
    ],
)
def test_words_of_significance(p: float | None, word: str) -> None:
    assert Comparison(2, 0, 0, 0, p, 0).significance == word


@pytest.mark.parametrize(
    ("d", "word"),
    [(-0.19, "negligible"), (0.2, "small"), (-0.5, "medium"), (0.79, "medium"), (-0.8, "large"), (9, "large")],
)
def test_words_of_the_effect(d: float, word: str) -> None:
    assert Comparison(2, 0, 0, 0, 0, d).effect == word


def test_weights() -> None:
    assert composites(((0.5, math.e),), Weights(2, 3)) == [2 * 1 - 3 * 0.5]
    assert (str(Weights()), str(Weights(2, 0.5))) == (
        "ln(perplexity) - accuracy",
        "2 * ln(perplexity) - 0.5 * accuracy",
    )
    for bad in ((-1, 1), (0, 0), (math.nan, 1), (1, math.inf), (1, 1e7)):
        with pytest.raises(EvaluationError, match="the weights must be from 0"):
            Weights(*bad)


A = (("x", 0.9), ("x", 0.6), ("y", 0.4), ("y", 0.8))
B = (("x", 0.8), ("x", 0.3), ("y", 0.4), ("y", 0.9))
C = (("x", 0.7), ("x", 0.7), ("y", 0.3), ("y", 0.6))
Answers = Sequence[tuple[str, float]]
"""For each question its subject, and the probability of option A, which is right."""


def write_answers(path: Path, answers: Answers = A, prompts: str = "0" * 64) -> Path:
    """A file of results."""
    questions = [
        {"subject": subject, "answer": 0, "picked": 0 if p > 0.5 else 1, "probabilities": [p, 1 - p, 0.0, 0.0]}
        for subject, p in answers
    ]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"shots": 0, "prompts_sha256": prompts, "questions": questions}))
    return path


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    return lambda name, *words: write_answers(tmp_path / name, *words)


def test_pairs(write: Write) -> None:
    files = read_variants([write("a.json", A), write("b.json", B)])
    questions = composite_scores(files, "questions", Weights())
    assert questions[0] == pytest.approx([-math.log(p) - (p > 0.5) for _, p in A])
    subjects = composite_scores(files, "subjects", Weights())
    assert subjects[1] == pytest.approx([-math.log(0.8 * 0.3) / 2 - 0.5, -math.log(0.4 * 0.9) / 2 - 0.5])
    with pytest.raises(EvaluationError, match=r"one pair of models alone.*--pairs \(subjects or questions\)"):
        composite_scores(files, "models", Weights())

    for folder, answers in (("p", (A, B)), ("q", (B, C))):
        for model, one in zip(("m1.json", "m2.json"), answers, strict=True):
            write(f"{folder}/{model}", one)
    folders = read_variants([write("p/m1.json", A).parent, write("q/m1.json", B).parent])
    lengths = [len(composite_scores(folders, pairs, Weights())[0]) for pairs in ("models", "subjects", "questions")]
    assert lengths == [2, 4, 8]
    models = composite_scores(folders, "models", Weights())
    assert models[0][1] == models[1][0] == pytest.approx(sum(subjects[1]) / 2)  # B's
    assert models[1][1] == pytest.approx(-math.log(0.7 * 0.7 * 0.3 * 0.6) / 4 - 0.75)


def test_results_that_do_not_fit_together(write: Write, tmp_path: Path) -> None:
    a = write("a.json", A)
    others = {
        "fewer": write("fewer.json", A[:3]),
        "subjects": write("subjects.json", [("z", p) for _, p in A]),
        "prompts": write("prompts.json", A, "1" * 64),
    }
    for other in others.values():
        said = refused("mmlu", "compare", a, other)
        assert f"{other} has answers to other questions than {a}; ask both models anew" in said
    write("p/m1.json", A)
    write("q/m2.json", A)
    assert "compare files with files" in refused("mmlu", "compare", a, tmp_path / "p")
    assert "m1.json is in one of" in refused("mmlu", "compare", tmp_path / "p", tmp_path / "q")
    (tmp_path / "empty").mkdir()
    assert "holds no results (*.json)" in refused("mmlu", "compare", tmp_path / "empty", tmp_path / "p")
    assert "name two at least" in refused("mmlu", "compare", a)
    single = write("single.json", A[:1])
    assert "ask more questions" in refused("mmlu", "compare", single, single, "--pairs", "questions")


@pytest.mark.parametrize(
    "change",
    [
        {"answer": 4},
        {"answer": True},
        {"picked": 7},
        {"subject": 1},
        {"probabilities": [0.5, 0.5]},
        {"probabilities": [0.5, 0.5, 0.5, 0.5]},
        {"probabilities": [-1, 1, 1, 0]},
        {"probabilities": [10**400, 0, 0, 0]},
        {"probabilities": None},
    ],
)
def test_damaged_results(tmp_path: Path, change: dict[str, Any]) -> None:
    sound = {"subject": "x", "answer": 0, "picked": None, "probabilities": [0.25] * 4}
    path = tmp_path / "r.json"
    path.write_text(json.dumps({"questions": [sound]}))
    assert len(read_results(path).answers) == 1
    path.write_text(json.dumps({"questions": [sound, sound | change]}))
    with pytest.raises(EvaluationError, match=r"holds no answers of eval_mmlu\.py --json"):
        read_results(path)


@pytest.mark.parametrize("text", ["[]", "{}", '{"questions": []}', '{"questions": {}}', '{"questions": [3]}'])
def test_files_that_are_no_results(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(EvaluationError, match="holds no answers"):
        read_results(tmp_path / "r.json")


def test_the_tool(write: Write, tmp_path: Path) -> None:
    files = [write(f"{name}.json", answers) for name, answers in (("a", A), ("b", B), ("c", C))]
    said = done("mmlu", "compare", *files, "--pairs", "questions", "--json", tmp_path / "out.json")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in said.splitlines() if line[:1] == "|"]
    content = json.loads((tmp_path / "out.json").read_text())
    assert [row[0] for row in rows if " - " in row[0]] == ["a.json - b.json", "a.json - c.json", "b.json - c.json"]
    expected = [-math.log(p) - (p > 0.5) for _, p in A], [-math.log(p) - (p > 0.5) for _, p in C]
    t, p = stats.ttest_rel(*expected)
    found = content["comparisons"][1]
    assert (found["t"], found["p"]) == pytest.approx((t, p))
    assert [row[4:6] for row in rows if row[0] == "a.json - c.json"] == [[f"{t:.4f}", f"{p:.4f}, not significant"]]
    assert "pairs of questions; composite score: ln(perplexity) - accuracy; lower is better" in said
    assert content["variants"][0]["composite_scores"] == pytest.approx(expected[0])
    same = done("mmlu", "compare", files[0], files[0])
    assert "not defined | not defined | 0.0000, negligible" in same
