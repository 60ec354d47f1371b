"""The file of one model's answers: written by an evaluation, read by a comparison."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError
from evaluation.mmlu.ask import Answered, by_subject
from evaluation.mmlu.questions import LETTERS
from evaluation.mmlu.scores import Choice, Scores, score
from input_files.structured import read_json


@dataclass(frozen=True)
class Results:
    """What a model made of a set of questions."""

    path: Path
    prompts: str | None
    """SHA-256 of all that was asked, examples included; None in files of versions that did not keep it."""
    answers: tuple[tuple[str, Choice, int], ...]
    """Subject, choice and number of the right option, question by question."""


def as_json(answered: Sequence[Answered], shots: int) -> dict[str, Any]:
    """The content of the file: scores, and each answer."""
    prompts = "\0".join(one.prompt for one in answered)
    total = score([(one.choice, one.question.answer) for one in answered])
    return {
        "shots": shots,
        "prompts_sha256": hashlib.sha256(prompts.encode()).hexdigest(),
        "all": _scores(total),
        "subjects": {subject: _scores(score(choices)) for subject, choices in by_subject(answered)},
        "questions": [
            {
                "subject": one.question.subject,
                "answer": one.question.answer,
                "picked": one.choice.picked,
                "probabilities": one.choice.probabilities,
            }
            for one in answered
        ],
    }


def _scores(scores: Scores) -> dict[str, Any]:
    return {
        "questions": scores.questions,
        "accuracy": scores.accuracy,
        "mean_nll": scores.mean_nll,
        "perplexity": scores.perplexity,
        "unanswered": scores.unanswered,
    }


def read_results(path: Path) -> Results:
    """Read the answers; scores are computed anew from them. Raises EvaluationError."""
    content = read_json(path, EvaluationError, "the results")
    try:
        prompts = content.get("prompts_sha256")
        answers = tuple(_answer(entry) for entry in content["questions"])
        if not answers or not isinstance(prompts, str | None):
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise EvaluationError(f"{path} holds no answers of eval_mmlu.py --json; make it with that option") from None
    return Results(path, prompts, answers)


def _answer(entry: dict[str, Any]) -> tuple[str, Choice, int]:
    """Raises what an entry of another shape leads to, ValueError for numbers out of range."""
    subject, answer, picked = entry["subject"], entry["answer"], entry["picked"]
    a, b, c, d = (float(value) for value in entry["probabilities"])
    options = range(len(LETTERS))
    if type(answer) is not int or answer not in options or not isinstance(subject, str):
        raise ValueError
    if picked is not None and (type(picked) is not int or picked not in options):
        raise ValueError
    if min(a, b, c, d) < 0 or not math.isclose(a + b + c + d, 1, abs_tol=1e-6):
        raise ValueError
    return subject, Choice((a, b, c, d), picked), answer
