"""Add models to the data set that FastEWQ learns from, by running EWQ on them."""

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from eoq.common_options import MODEL_HELP, add_source_options, source_access
from terminal.text import say
from terminal.tool import run_tool

EXAMPLES = """\
examples:
  eoq fastewq-dataset blocks.csv model-a-F16.gguf models/model-b
  eoq plan config.json --planner fastewq --dataset blocks.csv
"""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("dataset", metavar="BLOCKS.csv", type=Path, help="file to add to; if there is none, EOQ's own is copied first")
    add("models", metavar="MODEL", nargs="+", help=f"{MODEL_HELP}, not quantised")
    add("--x", type=float, default=1.0, help="standard deviations from mean to threshold (default: 1)")
    add_source_options(parser, beside="the data set")
    return parser


def run(arguments: argparse.Namespace) -> None:
    from converter.ingest import local_path, named_model, open_model
    from converter.options import TypeOptions
    from converter.plan.planners import EwqRequest, make_proposals
    from converter.plan.planners.fastewq import DATASET, read_dataset, write_dataset
    from converter.plan.planners.fastewq.measured import measured_rows
    from converter.report.display import ConversionDisplay
    from output_files.claim import claimed
    from output_files.target import check_outputs, resolve_target
    from output_files.whole import whole_or_not
    from terminal.cores import available_cores

    target = resolve_target(arguments.dataset)
    threads = available_cores() if arguments.threads is None else arguments.threads
    access = source_access(arguments)
    models = [named_model(model, access.revision) for model in arguments.models]
    with claimed([target], [model for model in models if isinstance(model, Path)]):
        dataset = read_dataset(target if target.exists() else DATASET)
        for name, model in zip(arguments.models, models, strict=True):
            with ConversionDisplay() as display, ExitStack() as stack:
                path = local_path(model, access, target.parent, display)
                check_outputs([target], [path])
                source = stack.enter_context(open_model(path, target, access, threads, display))
                made = make_proposals(source, EwqRequest(x=arguments.x), TypeOptions(), threads, display)
                assert made.decisions is not None
                rows = measured_rows(source, path, made.blocks, made.decisions)
            dataset = dataset.with_model(rows)
            say([f"{name}: {len(rows)} blocks, {sum(row.quantized for row in rows)} of them quantised"])
        with whole_or_not(target) as temporary:
            write_dataset(dataset, temporary)


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    return run_tool(run, make_parser(prog).parse_args(words))
