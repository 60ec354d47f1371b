"""All questions, one after the other or several at a time."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread

from evaluation.errors import EvaluationError
from evaluation.mmlu.questions import Question, prompt
from evaluation.mmlu.scores import Choice, choose
from evaluation.mmlu.server import Server


@dataclass(frozen=True)
class Answered:
    """A question with what the model made of it."""

    question: Question
    choice: Choice
    prompt: str
    """What was asked, with its examples."""


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
        answered = Answered(question, choose(server.top_tokens(asked)), asked)
        done()
        return answered

    return _in_order(ask, questions, parallel)


def _in_order(ask: Callable[[Question], Answered], questions: Sequence[Question], parallel: int) -> list[Answered]:
    """By threads that nobody waits for when the work breaks off: a server may take minutes to answer, or for ever."""
    answers: list[Future[Answered]] = [Future() for _ in questions]
    waiting = deque(zip(answers, questions, strict=True))

    def work() -> None:
        while True:
            try:
                answer, question = waiting.popleft()
            except IndexError:
                return
            try:
                answer.set_result(ask(question))
            except BaseException as error:
                answer.set_exception(error)

    for _ in range(min(parallel, len(questions))):
        Thread(target=work, daemon=True).start()
    try:
        return [answer.result() for answer in answers]
    finally:
        waiting.clear()


def by_subject(answered: Sequence[Answered]) -> Iterator[tuple[str, list[tuple[Choice, int]]]]:
    """Choices and right answers of each subject, in the order of the subjects' first questions."""
    found: dict[str, list[tuple[Choice, int]]] = {}
    for one in answered:
        found.setdefault(one.question.subject, []).append((one.choice, one.question.answer))
    yield from found.items()
