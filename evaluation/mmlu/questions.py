"""Questions in MMLU's usual CSV form, and the prompt that asks one."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from input_files.ordinary import read_text

LETTERS = "ABCD"
_MOST_BYTES = 1 << 28
_SPLIT = re.compile(r"_(test|val|dev)$")


@dataclass(frozen=True)
class Question:
    """Four options, of which one is right."""

    subject: str
    text: str
    options: tuple[str, str, str, str]
    answer: int
    """Number of the right option."""


def read_questions(path: Path) -> list[Question]:
    """From a CSV file, or from all in a folder: question, four options, letter; no header. Raises EvaluationError.

    The subject is the file's name without `_test`, `_val` or `_dev`, with spaces for underscores.
    """
    files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
    if not files:
        raise EvaluationError(f"the folder {path} holds no CSV files with questions")
    return [question for file in files for question in _read(file)]


def _read(file: Path) -> list[Question]:
    subject = _SPLIT.sub("", file.stem).replace("_", " ")
    questions = []
    text = read_text(file, EvaluationError, "the questions", most=_MOST_BYTES)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        for row in reader:
            if len(row) != 6 or row[5].strip() not in tuple(LETTERS):
                raise EvaluationError(
                    f"line {reader.line_num} of {file} is not a question, four options and one of A, B, C, D"
                )
            question, a, b, c, d, letter = (cell.strip() for cell in row)
            questions.append(Question(subject, question, (a, b, c, d), LETTERS.index(letter)))
    except csv.Error as e:
        raise EvaluationError(f"the questions {file} are not CSV ({e}); mend them") from None
    if not questions:
        raise EvaluationError(f"{file} holds no questions")
    return questions


def prompt(question: Question, examples: Sequence[Question] = ()) -> str:
    """The text that ends where the letter belongs. Examples come before, with their answers."""
    head = f"The following are multiple choice questions (with answers) about {question.subject}.\n\n"
    shown = "".join(f"{_asked(e)} {LETTERS[e.answer]}\n\n" for e in examples)
    return head + shown + _asked(question)


def _asked(question: Question) -> str:
    options = "".join(f"\n{letter}. {text}" for letter, text in zip(LETTERS, question.options, strict=True))
    return f"{question.text}{options}\nAnswer:"
