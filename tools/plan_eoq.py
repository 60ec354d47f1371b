#!/usr/bin/env python3
"""Plan which tensor of a model gets which type. The plan is a file for convert_eoq.py --plan."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.command_line import given, run_to_the_end

if TYPE_CHECKING:
    from converter.plan import Proposals
    from converter.plan.ewq import Block, Decisions
    from converter.source import Source

EXAMPLES = """\
examples:
  plan_eoq.py model-f16.gguf --planner ewq --json plan.json --plot plan.png
  plan_eoq.py model-f16.gguf --planner ewq --variant 3bit/4bit --level 4bit=eoq4_64
  plan_eoq.py model-f16.gguf --planner preset --preset progressive --type eoq4 --json plan.json
  convert_eoq.py model-f16.gguf model-ewq.gguf --plan plan.json
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, help="Hugging Face model folder, or GGUF file (the first of its splits)")
    add(
        "--planner",
        choices=("ewq", "preset"),
        required=True,
        help="ewq: by the entropy of the weights; preset: by kind",
    )
    add("--json", metavar="PLAN.json", type=Path, help="file to write the plan to")
    add("--plot", metavar="OUT.png", type=Path, help="picture of bits a weight (and entropies) over depth")
    add("--table", action="store_true", help="print every tensor")
    add("--context", type=int, default=4096, metavar="N", help="tokens of context to count memory for (default: 4096)")
    ewq = parser.add_argument_group("ewq")
    ewq.add_argument("--variant", default="4bit/8bit", help="8bit, 4bit/8bit (default) or 3bit/4bit")
    ewq.add_argument("--x", type=float, default=1.0, help="standard deviations from mean to threshold (default: 1)")
    ewq.add_argument("--epsilon", type=float, help="inside the logarithm (default: 0.01)")
    ewq.add_argument(
        "--level",
        action="append",
        default=[],
        metavar="LEVEL=TYPE",
        help="type of raw, 8bit, 4bit, … ; may be repeated",
    )
    preset = parser.add_argument_group("preset")
    preset.add_argument("--preset", default="uniform", help="name; `--preset list` prints them (default: uniform)")
    preset.add_argument("--type", default="eoq4", metavar="TYPE", help="the base (default: eoq4)")
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--llama-dir", type=Path, metavar="DIR", help="llama.cpp tree to convert Hugging Face folders with")
    add("--work-dir", type=Path, metavar="DIR", help="where the intermediate GGUF goes (default: beside the plan)")
    arguments = parser.parse_args()
    if arguments.context < 1:
        parser.error("the context must have at least one token")
    if arguments.epsilon is not None and not arguments.epsilon > 0:
        parser.error("--epsilon must be above 0")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    from converter import ConversionOptions, Progress
    from converter.ingest import open_model
    from converter.plan import FixedPlanner, as_plan_file
    from converter.plan.memory import PlannedFile
    from converter.plan.plot import plot_plan
    from converter.plan.presets import PRESETS
    from converter.plan.tables import block_lines, size_lines, tensor_lines
    from converter.write import check_not_source, resolve_target

    if arguments.planner == "preset" and arguments.preset == "list":
        print("\n".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()))
        return
    options = ConversionOptions(
        llama_dir=arguments.llama_dir, work_dir=arguments.work_dir, **given(threads=arguments.threads)
    )
    targets = [resolve_target(path) for path in (arguments.json, arguments.plot) if path is not None]
    beside = targets[0] if targets else Path.cwd() / "plan.json"
    with open_model(arguments.model, beside, options, Progress()) as model:
        for target in targets:
            check_not_source(target, model.paths)
        proposals, decided = propose(model, arguments, options.threads)
        plan = FixedPlanner(options, proposals).plan(model.tensors, model.architecture)
        planned = PlannedFile.of(plan, model)
        architecture, name = model.architecture, model.paths[0].name
    if decided is not None:
        print("\n".join(block_lines(*decided)) + "\n")
    if arguments.table:
        print("\n".join(tensor_lines(planned)) + "\n")
    print("\n".join(size_lines(planned, arguments.context)))
    if arguments.json:
        extra = {"model": name, "architecture": architecture, **(about(*decided, arguments) if decided else {})}
        write_text(arguments.json, json.dumps(as_plan_file(proposals, extra), indent=1, ensure_ascii=False) + "\n")
    if arguments.plot:
        plot_plan(plan, architecture, arguments.plot, decided[1] if decided else None)


def propose(
    model: "Source", arguments: argparse.Namespace, threads: int
) -> "tuple[Proposals, tuple[list[Block], Decisions] | None]":
    """The proposals, and for EWQ what led to them. Raises OptionError, SourceError, UnknownTypeError."""
    from converter.plan import ewq
    from converter.plan.levels import LevelTable
    from converter.plan.presets import propose_preset

    if arguments.planner == "preset":
        return propose_preset(arguments.preset, arguments.type, model.tensors, model.architecture), None
    levels = LevelTable.changed(arguments.level)
    ewq.decide([0.0], arguments.x, arguments.variant)  # refuses before the work what it would refuse after it
    blocks = ewq.measure(model, threads=threads, **given(epsilon=arguments.epsilon))
    decisions = ewq.decide([block.entropy for block in blocks], arguments.x, arguments.variant)
    return ewq.propose(blocks, decisions, levels), (blocks, decisions)


def about(blocks: "list[Block]", decisions: "Decisions", arguments: argparse.Namespace) -> dict[str, Any]:
    """EWQ's numbers for the plan file: all, then block by block in the model's order."""
    from converter.plan.softmax_entropy import EPSILON

    return {
        "variant": arguments.variant,
        "x": arguments.x,
        "epsilon": arguments.epsilon or EPSILON,
        "mean": decisions.mean,
        "standard_deviation": decisions.deviation,
        "threshold": decisions.threshold,
        "order": [blocks[i].name for i in decisions.order],
        "blocks": [
            {
                "name": block.name,
                "weights": block.weights,
                "entropy": entropy,
                "decision": level,
                "matrices": {m.name: {"weights": m.weights, "entropy": m.entropy} for m in block.matrices},
            }
            for block, entropy, level in zip(blocks, decisions.entropies, decisions.levels, strict=True)
        ],
    }


def write_text(path: Path, text: str) -> None:
    """Whole, or not at all. Raises OSError."""
    from converter.write import temporary_name

    temporary = temporary_name(path)
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    run_to_the_end(run, parse_arguments())
