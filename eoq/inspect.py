"""Show what is in a GGUF file: tensors, types, bits; of EOQ types how codes are spread, and their entropy."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq inspect model-EOQ4.gguf
  eoq inspect model-EOQ4.gguf --tensor 'ffn_down' --json down.json --plot down.png
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("file", metavar="FILE.gguf", type=Path, help="any GGUF file of a model (of splits, the first)")
    add("--tensor", metavar="REGEX", help="only tensors in whose name the expression is found")
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--json", metavar="OUT.json", type=Path, help="also write the results there")
    add("--plot", metavar="OUT.png", type=Path, help="also draw bits by layer and codes by type")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from converter.options import check_threads
    from gguf_files.source import open_gguf
    from inspection.contents import read_contents
    from inspection.display import shown_progress
    from inspection.plot import plot_contents
    from output_files.claim import claimed
    from output_files.whole import write_whole
    from terminal.cores import available_cores

    threads = available_cores() if arguments.threads is None else arguments.threads
    check_threads(threads)
    file = open_gguf(arguments.file)
    with claimed([arguments.json, arguments.plot], file.paths):
        with shown_progress() as progress:
            contents = read_contents(file, threads, progress, arguments.tensor)
        print("\n".join(contents.lines()))
        if arguments.json:
            text = json.dumps(contents.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
            write_whole(arguments.json, text + "\n")
        if arguments.plot:
            plot_contents(contents, arguments.plot)


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    return run_tool(run, make_parser(prog).parse_args(words))
