"""All questions, one after the other or several at a time."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from evaluation.errors import EvaluationError
from evaluation.mmlu.questions import Question, prompt
from evaluation.mmlu.scores import Choice, choose
from evaluation.mmlu.server import Server


@dataclass(frozen=True)
class Answered:
    """A question with what the model made of it."""

    question: Question
    choice: Choice


def ask_all(
    server: Server,
    questions: Sequence[Question],
    examples: Sequence[Question] = (),
    shots: int = 0,
    parallel: int = 1,
    done: Callable[[], None] = lambda: None,
) -> list[Answered]:
    """Ask them in order, each after the first `shots` examples of its subject. Raises EvaluationError."""
    by_subject: dict[str, list[Question]] = {}
    for example in examples:
        by_subject.setdefault(example.subject, []).append(example)
    for question in questions:
        if len(by_subject.get(question.subject, [])) < shots:
            raise EvaluationError(
                f"there are fewer than {shots} examples of {question.subject}; ask with fewer --shots"
            )

    def ask(question: Question) -> Answered:
        asked = prompt(question, by_subject.get(question.subject, [])[:shots])
        answered = Answered(question, choose(server.top_tokens(asked)))
        done()
        return answered

    with ThreadPoolExecutor(parallel) as pool:
        waiting = [pool.submit(ask, question) for question in questions]
        try:
            return [each.result() for each in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def by_subject(answered: Sequence[Answered]) -> Iterator[tuple[str, list[tuple[Choice, int]]]]:
    """Choices and right answers of each subject, in the order of the subjects' first questions."""
    found: dict[str, list[tuple[Choice, int]]] = {}
    for one in answered:
        found.setdefault(one.question.subject, []).append((one.choice, one.question.answer))
    yield from found.items()
