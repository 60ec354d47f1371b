"""Accuracy and perplexity on MMLU questions, asked of a running llama-server; comparisons of what came of them."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from terminal.text import say
from terminal.tool import run_tool

if TYPE_CHECKING:
    from evaluation.mmlu import Question

SERVER = "http://127.0.0.1:8080"
EXAMPLES = """\
ask may be left out: eoq mmlu QUESTIONS … is eoq mmlu ask QUESTIONS …

examples:
  llama-server -m model-EOQ4.gguf -c 4096 --port 8080 &
  eoq mmlu mmlu/data/test --dev mmlu/data/dev --shots 5 --json EOQ4.json
  eoq mmlu compare F16.json EOQ4.json IQ4_XS.json
  eoq mmlu compare results/EOQ4 results/IQ4_XS     # folders with a file of each model
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    ask = commands.add_parser("ask", help="ask a model the questions, and print its scores")
    add = ask.add_argument
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

    compare = commands.add_parser("compare", help="whether variants differ: composite scores, t-test, Cohen's d")
    add = compare.add_argument
    add(
        "variants",
        metavar="VARIANT",
        type=Path,
        nargs="+",
        help="results of ask --json, or a folder with those of several models, under the same names in each folder",
    )
    add(
        "--pairs",
        choices=("models", "subjects", "questions"),
        help="what makes a pair of scores (default: subjects; models where the variants are folders)",
    )
    score = "in the composite score, weight * ln(perplexity) - weight * accuracy"
    add("--perplexity-weight", type=float, default=1.0, metavar="X", help=f"{score} (default: 1)")
    add("--accuracy-weight", type=float, default=1.0, metavar="X", help=f"{score} (default: 1)")
    add("--json", metavar="OUT.json", type=Path, help="also write the comparisons there")
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.command == "compare":
        if len(arguments.variants) < 2:
            parser.error("one variant is compared with nothing; name two at least")
        return arguments
    if arguments.shots < 0 or arguments.parallel < 1 or (arguments.limit is not None and arguments.limit < 1):
        parser.error("--shots must not be negative, --parallel and --limit must be at least 1")
    if arguments.shots and not arguments.dev:
        parser.error("--shots needs examples; name their folder with --dev")
    return arguments


def ask(arguments: argparse.Namespace) -> None:
    from output_files.claim import claimed

    with claimed([arguments.json], [arguments.questions, arguments.dev]):
        _ask(arguments)


def _ask(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from evaluation.mmlu import Server, ask_all, read_questions, score
    from evaluation.mmlu.ask import by_subject
    from evaluation.mmlu.results_file import as_json
    from evaluation.mmlu.tables import score_table
    from output_files.whole import write_whole

    questions = _limited(read_questions(arguments.questions), arguments.limit)
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
    say(score_table(subjects, total).splitlines())
    if arguments.json:
        write_whole(arguments.json, json.dumps(as_json(answered, arguments.shots), indent=1) + "\n")


def _limited(questions: "list[Question]", most: int | None) -> "list[Question]":
    """The first ones of each subject."""
    if most is None:
        return questions
    seen: dict[str, int] = {}
    kept = []
    for question in questions:
        seen[question.subject] = seen.get(question.subject, 0) + 1
        kept += [question] * (seen[question.subject] <= most)
    return kept


def compare(arguments: argparse.Namespace) -> None:
    from evaluation.mmlu.comparison import Weights, compare_all, composite_scores, read_variants
    from evaluation.mmlu.tables import comparison_json, comparison_table, variant_table
    from output_files.claim import claimed
    from output_files.json_text import json_text
    from output_files.whole import write_whole

    weights = Weights(arguments.perplexity_weight, arguments.accuracy_weight)
    with claimed([arguments.json], arguments.variants):
        variants = read_variants(arguments.variants)
        pairs = arguments.pairs or ("models" if variants[0].path.is_dir() else "subjects")
        composites = composite_scores(variants, pairs, weights)
        compared = compare_all(composites)
        say(variant_table(variants, composites).splitlines())
        say(["", f"pairs of {pairs}; composite score: {weights}; lower is better", ""])
        say(comparison_table(variants, compared).splitlines())
        if arguments.json:
            content = comparison_json(variants, composites, compared, pairs, weights)
            write_whole(arguments.json, json_text(content, indent=1) + "\n")


COMMANDS = {"ask": ask, "compare": compare}


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    words = list(sys.argv[1:] if words is None else words)
    if words and words[0] not in (*COMMANDS, "-h", "--help"):
        words.insert(0, "ask")
    arguments = parse_arguments(words, prog)
    return run_tool(COMMANDS[arguments.command], arguments)
