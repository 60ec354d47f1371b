"""Accuracy and perplexity of a model on MMLU questions, asked of a running llama-server."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from terminal.text import printable, say
from terminal.tool import run_tool

if TYPE_CHECKING:
    from evaluation.mmlu import Scores

SERVER = "http://127.0.0.1:8080"
EXAMPLES = """\
examples:
  llama-server -m model-EOQ4.gguf -c 4096 --port 8080 &
  eoq mmlu mmlu/data/test --dev mmlu/data/dev --shots 5 --json EOQ4.json
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("questions", metavar="QUESTIONS", type=Path, help="CSV file, or folder of them: question, A, B, C, D, letter")
    add("--server", default=SERVER, metavar="URL", help=f"address of llama-server (default: {SERVER})")
    add("--dev", metavar="FOLDER", type=Path, help="examples, in the same form and under the same subjects")
    add("--shots", type=int, default=0, metavar="N", help="examples before each question (default: 0)")
    add("--limit", type=int, metavar="N", help="questions of each subject at most (default: all)")
    add(
        "--parallel",
        type=int,
        default=1,
        metavar="N",
        help="questions at a time; llama-server needs --parallel too (default: 1)",
    )
    add("--json", metavar="OUT.json", type=Path, help="also write the results there, with every question's choice")
    add("--quiet", action="store_true", help="print nothing but the table and errors")
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.shots < 0 or arguments.parallel < 1 or (arguments.limit is not None and arguments.limit < 1):
        parser.error("--shots must not be negative, --parallel and --limit must be at least 1")
    if arguments.shots and not arguments.dev:
        parser.error("--shots needs examples; name their folder with --dev")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    from output_files.claim import claimed

    with claimed([arguments.json], [arguments.questions, arguments.dev]):
        _ask(arguments)


def _ask(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from evaluation.mmlu import Server, ask_all, read_questions, score
    from evaluation.mmlu.ask import by_subject
    from output_files.whole import write_whole

    questions = read_questions(arguments.questions)
    if arguments.limit:
        seen: dict[str, int] = {}
        kept = []
        for question in questions:
            seen[question.subject] = seen.get(question.subject, 0) + 1
            kept += [question] * (seen[question.subject] <= arguments.limit)
        questions = kept
    examples = read_questions(arguments.dev) if arguments.dev else []
    console = Console(stderr=True, quiet=arguments.quiet)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("asking", total=len(questions))
        answered = ask_all(
            Server(arguments.server),
            questions,
            examples,
            arguments.shots,
            arguments.parallel,
            lambda: bar.advance(task),
        )
    subjects = {subject: score(choices) for subject, choices in by_subject(answered)}
    total = score([(one.choice, one.question.answer) for one in answered])
    say(table(subjects, total).splitlines())
    if arguments.json:
        content: dict[str, Any] = {
            "shots": arguments.shots,
            "all": as_json(total),
            "subjects": {subject: as_json(scores) for subject, scores in subjects.items()},
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
        write_whole(arguments.json, json.dumps(content, indent=1) + "\n")


def table(subjects: "dict[str, Scores]", total: "Scores") -> str:
    """Markdown, all questions last."""
    lines = ["| subject | questions | accuracy | perplexity | without an answer |", "|---|--:|--:|--:|--:|"]
    for name, s in [*subjects.items(), ("**all**", total)]:
        lines.append(f"| {printable(name)} | {s.questions} | {s.accuracy:.4f} | {s.perplexity:.4f} | {s.unanswered} |")
    return "\n".join(lines)


def as_json(scores: "Scores") -> dict[str, Any]:
    return {
        "questions": scores.questions,
        "accuracy": scores.accuracy,
        "mean_nll": scores.mean_nll,
        "perplexity": scores.perplexity,
        "unanswered": scores.unanswered,
    }


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    return run_tool(run, parse_arguments(words, prog))
