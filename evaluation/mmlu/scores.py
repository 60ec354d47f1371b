"""Accuracy and perplexity of section 5 of the EWQ paper."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, fsum, log

from evaluation.mmlu.questions import LETTERS

DEFAULT_LOG_PROBABILITY = -100.0
"""Log-probability of an option that is not among the likeliest tokens."""


@dataclass(frozen=True)
class Choice:
    """What a model made of a question."""

    probabilities: tuple[float, float, float, float]
    picked: int | None
    """Number of the likeliest option; None where none was among the tokens."""


@dataclass(frozen=True)
class Scores:
    """Over a number of questions."""

    questions: int
    accuracy: float
    """Share of right answers; a question without one among the likeliest tokens counts as wrong."""
    mean_nll: float
    """Mean of the questions' -ln p(right option), which the paper calls perplexity for questions and subjects."""
    unanswered: int

    @property
    def perplexity(self) -> float:
        """exp of that mean: the paper's aggregate."""
        return exp(self.mean_nll)


def choose(tokens: Iterable[tuple[str, float]]) -> Choice:
    """From the likeliest tokens and their log-probabilities. An option is its letter, spaces aside."""
    by_letter: dict[str, float] = {}
    for text, value in tokens:
        letter = text.strip()
        if letter in tuple(LETTERS):
            by_letter[letter] = max(value, by_letter.get(letter, DEFAULT_LOG_PROBABILITY))
    if not by_letter:
        return Choice((0.25, 0.25, 0.25, 0.25), None)
    values = [max(by_letter.get(letter, DEFAULT_LOG_PROBABILITY), DEFAULT_LOG_PROBABILITY) for letter in LETTERS]
    largest = max(values)
    powers = [exp(value - largest) for value in values]
    total = fsum(powers)
    a, b, c, d = (power / total for power in powers)
    return Choice((a, b, c, d), values.index(largest))


def negative_log_likelihood(choice: Choice, answer: int) -> float:
    """-ln of the right option's probability; one that underflows is taken for the smallest there is."""
    return -log(max(choice.probabilities[answer], 5e-324))


def score(answers: Sequence[tuple[Choice, int]]) -> Scores:
    """Scores of choices, each with the number of the right option. Raises ValueError without any."""
    if not answers:
        raise ValueError("there is nothing to score")
    right = sum(choice.picked == answer for choice, answer in answers)
    nll = fsum(negative_log_likelihood(choice, answer) for choice, answer in answers) / len(answers)
    return Scores(len(answers), right / len(answers), nll, sum(choice.picked is None for choice, _ in answers))
