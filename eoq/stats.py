"""Collect, show, compare, merge and mix the statistics that calibrated conversions use."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from eoq.common_options import (
    MODEL_HELP,
    add_calibration_options,
    add_log_json,
    add_source_options,
    calibration_options,
    source_access,
)
from terminal.event_log import EventLog
from terminal.text import say
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq stats collect model-F16.gguf code.stats --calib code.txt --calib-tokens 65536
  eoq stats collect models/SmolLM2-135M smollm2.stats
  eoq stats merge model.stats code.stats both.stats
  eoq stats show both.stats
  eoq stats collect model-F16.gguf kinds --by-text
  eoq stats mix kinds/bundled-code.stats:2 kinds/bundled-chat.stats mine.stats
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    show = commands.add_parser("show", help="print what a statistics file or an imatrix of llama.cpp holds")
    show.add_argument("file", metavar="FILE", type=Path, help="file of statistics, or imatrix")

    compare = commands.add_parser("compare", help="print how far two files of one model are apart, input by input")
    compare.add_argument("first", metavar="FILE", type=Path, help="file of statistics, or imatrix")
    compare.add_argument("second", metavar="FILE", type=Path, help="another one")

    merge = commands.add_parser("merge", help="make one file of several of the same model, token by token")
    merge.add_argument("files", metavar="FILE", type=Path, nargs="+", help="files that eoq stats or --stats made")
    merge.add_argument("output", metavar="OUT", type=Path, help="file to write")

    mix = commands.add_parser("mix", help="make one file of several of the same model, each by its weight")
    mix.add_argument("files", metavar="FILE[:WEIGHT]", nargs="+", help="files; those without a weight have 1")
    mix.add_argument("output", metavar="OUT", type=Path, help="file to write")

    collect = commands.add_parser("collect", help="calibrate, without converting")
    add = collect.add_argument
    add("model", metavar="MODEL", help=MODEL_HELP)
    add("output", metavar="OUT", type=Path, help="file to write; an existing one is replaced when all is done")
    add("--by-text", action="store_true", help="one file for each text, in the folder OUT, to be mixed later")
    add_calibration_options(collect)
    add("--resume", action="store_true", help="go on with an interrupted calibration where it has a checkpoint")
    add_source_options(collect, beside="the output")
    add("--quiet", action="store_true", help="print nothing but errors")
    add_log_json(collect)
    return parser


def show(arguments: argparse.Namespace) -> None:
    from converter.statistics import open_statistics, table_lines

    say(table_lines(open_statistics(arguments.file)))


def compare(arguments: argparse.Namespace) -> None:
    from converter.statistics import comparison_lines, open_statistics

    say(comparison_lines(open_statistics(arguments.first), open_statistics(arguments.second)))


def merge(arguments: argparse.Namespace) -> None:
    from converter.statistics import merge_statistics

    merged = merge_statistics(arguments.files, arguments.output)
    say([f"{merged.path}: {merged.tokens:,} tokens of {len(arguments.files)} files"])


def mix(arguments: argparse.Namespace) -> None:
    from converter.options import split_weight
    from converter.statistics import mix_statistics

    mixed = mix_statistics(dict(split_weight(file) for file in arguments.files), arguments.output)
    say([f"{mixed.path}: {mixed.description}"])


def collect(arguments: argparse.Namespace, log: EventLog) -> None:
    from converter.calibrate.collect_statistics import collect_by_text, collect_statistics
    from converter.report import ConversionProgress
    from converter.report.display import ConversionDisplay
    from converter.report.logged_conversion import LoggedConversion
    from converter.statistics import Statistics
    from terminal.cores import available_cores

    log.open([] if arguments.by_text else [arguments.output])
    threads = available_cores() if arguments.threads is None else arguments.threads
    access = source_access(arguments, allow_requantize=True)
    task = (arguments.model, arguments.output, calibration_options(arguments), access, threads)

    def collected(shown: ConversionProgress) -> list[Statistics]:
        progress = LoggedConversion(log, shown)
        return collect_by_text(*task, progress) if arguments.by_text else [collect_statistics(*task, progress)]

    if arguments.quiet:
        found = collected(ConversionProgress())
    else:
        with ConversionDisplay() as display:
            found = collected(display)
    log.ended(files=[statistics.path for statistics in found], tokens=[statistics.tokens for statistics in found])
    if arguments.quiet:
        return
    for statistics in found:
        say([f"{statistics.path}: {len(statistics.tensor_names)} tensors; {statistics.description}"])
        say(f"note: {warning}" for warning in statistics.warnings())


COMMANDS = {"show": show, "compare": compare, "merge": merge, "mix": mix}


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = make_parser(prog).parse_args(words)
    if arguments.command != "collect":
        return run_tool(COMMANDS[arguments.command], arguments)
    log = EventLog(arguments.log_json, "stats collect")
    return run_tool(lambda arguments: collect(arguments, log), arguments, log=log)
