#!/usr/bin/env python3
"""Collect, show, compare and merge the statistics that calibrated conversions use."""

import argparse
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.command_line import add_calibration_options, calibration_options, given, run_to_the_end

EXAMPLES = """\
examples:
  stats_eoq.py collect models/SmolLM2-135M smollm2.stats.gguf
  stats_eoq.py collect model-f16.gguf code.stats.gguf --calib code.txt --calib-tokens 65536
  stats_eoq.py merge model.stats.gguf code.stats.gguf both.stats.gguf
  stats_eoq.py show both.stats.gguf
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)

    show = commands.add_parser("show", help="print what a statistics file or an imatrix of llama.cpp holds")
    show.add_argument("file", metavar="FILE", type=Path)

    compare = commands.add_parser("compare", help="print how far two files of one model are apart, input by input")
    compare.add_argument("first", metavar="FILE", type=Path)
    compare.add_argument("second", metavar="FILE", type=Path)

    merge = commands.add_parser("merge", help="make one file of several of the same model, token by token")
    merge.add_argument("files", metavar="FILE", type=Path, nargs="+", help="files that stats_eoq.py or --stats made")
    merge.add_argument("output", metavar="OUT", type=Path)

    collect = commands.add_parser("collect", help="calibrate, without converting")
    add = collect.add_argument
    add("model", metavar="MODEL", type=Path, help="Hugging Face model folder, or GGUF file (the first of its splits)")
    add("output", metavar="OUT", type=Path, help="file to write; an existing one is replaced when all is done")
    add_calibration_options(collect)
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--llama-dir", type=Path, metavar="DIR", help="llama.cpp tree to convert Hugging Face folders with")
    add("--work-dir", type=Path, metavar="DIR", help="where the intermediate GGUF goes (default: beside the output)")
    add("--quiet", action="store_true", help="print nothing but errors")
    return parser.parse_args()


def show(arguments: argparse.Namespace) -> None:
    from converter.statistics import open_statistics, table_lines

    print_lines(table_lines(open_statistics(arguments.file)))


def compare(arguments: argparse.Namespace) -> None:
    from converter.statistics import comparison_lines, open_statistics

    print_lines(comparison_lines(open_statistics(arguments.first), open_statistics(arguments.second)))


def print_lines(lines: Iterable[str]) -> None:
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # a reader such as head may have seen enough
    for line in lines:
        print(line)


def merge(arguments: argparse.Namespace) -> None:
    from converter.statistics import merge_statistics

    merged = merge_statistics(arguments.files, arguments.output)
    print(f"{merged.path}: {merged.tokens:,} tokens of {len(arguments.files)} files")


def collect(arguments: argparse.Namespace) -> None:
    from converter.collect import collect_statistics
    from converter.display import ConversionDisplay
    from converter.options import ConversionOptions

    options = ConversionOptions(
        calibration=calibration_options(arguments),
        llama_dir=arguments.llama_dir,
        work_dir=arguments.work_dir,
        **given(threads=arguments.threads),
    )
    if arguments.quiet:
        collect_statistics(arguments.model, arguments.output, options)
        return
    with ConversionDisplay() as display:
        statistics = collect_statistics(arguments.model, arguments.output, options, display)
    print(f"{statistics.path}: {len(statistics.tensor_names)} tensors; {statistics.description}")
    for warning in statistics.warnings():
        print(f"note: {warning}")


COMMANDS = {"show": show, "compare": compare, "merge": merge, "collect": collect}

if __name__ == "__main__":
    parsed = parse_arguments()
    run_to_the_end(COMMANDS[parsed.command], parsed)
