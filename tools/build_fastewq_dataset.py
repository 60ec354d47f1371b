#!/usr/bin/env python3
"""Add models to the data set that FastEWQ learns from, by running EWQ on them."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.command_line import given, run_to_the_end

EXAMPLES = """\
examples:
  build_fastewq_dataset.py blocks.csv model-a-f16.gguf models/model-b
  plan_eoq.py config.json --planner fastewq --dataset blocks.csv
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("dataset", metavar="BLOCKS.csv", type=Path, help="file to add to; if there is none, EOQ's own is copied first")
    add("models", metavar="MODEL", type=Path, nargs="+", help="Hugging Face model folder, or GGUF file, not quantised")
    add("--x", type=float, default=1.0, help="standard deviations from mean to threshold (default: 1)")
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--llama-dir", type=Path, metavar="DIR", help="llama.cpp tree to convert Hugging Face folders with")
    add("--work-dir", type=Path, metavar="DIR", help="where the intermediate GGUF goes (default: beside the data set)")
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    from converter import ConversionOptions
    from converter.display import ConversionDisplay
    from converter.ingest import open_model
    from converter.plan.fastewq import DATASET, read_dataset, write_dataset
    from converter.plan.fastewq.measured import measured_rows
    from converter.planning import EwqRequest, make_proposals
    from converter.write import resolve_target, whole_or_not

    target = resolve_target(arguments.dataset)
    dataset = read_dataset(target if target.exists() else DATASET)
    options = ConversionOptions(
        llama_dir=arguments.llama_dir, work_dir=arguments.work_dir, **given(threads=arguments.threads)
    )
    for path in arguments.models:
        with ConversionDisplay() as display, open_model(path, target, options, display) as model:
            made = make_proposals(model, path, EwqRequest(x=arguments.x), options, display)
            assert made.decisions is not None
            rows = measured_rows(model, path, made.blocks, made.decisions)
        dataset = dataset.with_model(rows)
        print(f"{path}: {len(rows)} blocks, {sum(row.quantized for row in rows)} of them quantised")
    with whole_or_not(target) as temporary:
        write_dataset(dataset, temporary)


if __name__ == "__main__":
    run_to_the_end(run, parse_arguments())
