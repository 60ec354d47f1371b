"""Plan which tensor of a model gets which type. The plan is a file for eoq convert --plan."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eoq.common_options import (
    MODEL_HELP,
    add_budget_options,
    add_log_json,
    add_source_options,
    budget_request,
    given,
    source_access,
)
from terminal.event_log import EventLog
from terminal.text import say
from terminal.tool import run_tool

if TYPE_CHECKING:
    from converter.plan.planners import Request

EXAMPLES = """\
examples:
  eoq plan model-F16.gguf --target-bpw 4.25 --stats model.stats --json plan.json
  eoq plan model-F16.gguf --fit-memory 6GiB --context 8192 --json plan.json
  eoq plan model-F16.gguf --planner ewq --json plan.json --plot plan.png
  eoq plan model-F16.gguf --planner ewq --variant 3bit/4bit --level 4bit=eoq4_64
  eoq plan model-F16.gguf --planner preset --preset progressive --type eoq4 --json plan.json
  eoq plan model-F16.gguf --planner ewq --machine localhost=8GiB --machine 192.168.1.20=16GiB,disk=40GiB \\
      --json plan.json
  eoq convert model-F16.gguf model-ewq.gguf --plan plan.json
"""

OPTIONS_OF = {
    ("budget",): (
        "--target-bpw",
        "--target-size",
        "--fit-memory",
        "--codes",
        "--stats",
        "--allow-partial-stats",
    ),
    ("ewq",): ("--x", "--epsilon"),
    ("ewq", "fastewq"): ("--variant", "--level"),
    ("fastewq",): ("--four-bit", "--dataset"),
    ("preset",): ("--preset", "--type"),
}
"""Options that only some planners heed."""


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog, description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help=f"{MODEL_HELP}; for fastewq also a config.json",
    )
    add(
        "--planner",
        choices=("budget", "ewq", "fastewq", "preset"),
        default="budget",
        help="budget (default): the least predicted loss for a size; ewq: by the entropy of the weights; fastewq: "
        "ewq, guessed from the shape of the model; preset: by kind of layer",
    )
    add("--json", metavar="PLAN.json", type=Path, help="file to write the plan to")
    add("--plot", metavar="OUT.png", type=Path, help="picture of bits a weight (and entropies) over depth")
    add("--table", action="store_true", help="print every tensor")
    add("--context", type=int, default=4096, metavar="N", help="tokens of context to count memory for (default: 4096)")
    add(
        "--tensor-type", metavar="REGEX=TYPE", action="append", default=[], help="types that are fixed; may be repeated"
    )
    budget = parser.add_argument_group("budget (one of the first three)")
    add_budget_options(budget)
    budget.add_argument("--stats", metavar="FILE", type=Path, help="statistics or imatrix to predict losses with")
    budget.add_argument(
        "--allow-partial-stats", action="store_true", help="accept an imatrix that lacks over a tenth of the weights"
    )
    ewq = parser.add_argument_group("ewq and fastewq")
    ewq.add_argument("--variant", help="8bit (default of fastewq), 4bit/8bit (default of ewq), or 3bit/4bit (ewq)")
    ewq.add_argument("--x", type=float, default=1.0, help="standard deviations from mean to threshold (default: 1)")
    ewq.add_argument("--epsilon", type=float, help="inside the logarithm (default: 0.01)")
    ewq.add_argument(
        "--level",
        action="append",
        default=[],
        metavar="LEVEL=TYPE",
        help="type of raw, 8bit, 4bit, … ; may be repeated",
    )
    ewq.add_argument(
        "--four-bit", type=int, default=1, metavar="N", help="fastewq 4bit/8bit: how many get 4 bits (default: 1)"
    )
    ewq.add_argument(
        "--dataset", type=Path, metavar="FILE.csv", help="fastewq: blocks to learn from (default: EOQ's own)"
    )
    cluster = parser.add_argument_group("cluster (ewq and fastewq change the blocks' precision to fit; others stay)")
    cluster.add_argument(
        "--machine",
        action="append",
        default=[],
        metavar="HOST[:PORT]=MEMORY[,disk=SIZE]",
        help="a machine with what it has for the model, the one that runs the program first; may be repeated",
    )
    preset = parser.add_argument_group("preset")
    preset.add_argument("--preset", default="uniform", help="name; `--preset list` prints them (default: uniform)")
    preset.add_argument("--type", default="eoq4", metavar="TYPE", help="the base (default: eoq4)")
    add_source_options(parser, beside="the plan")
    add_log_json(parser)
    return parser


def parse_arguments(words: Sequence[str] | None, prog: str | None) -> argparse.Namespace:
    parser = make_parser(prog)
    arguments = parser.parse_args(words)
    if arguments.context < 1:
        parser.error("the context must have at least one token")
    if arguments.four_bit < 0:
        parser.error("--four-bit must not be negative")
    if arguments.epsilon is not None and not arguments.epsilon > 0:
        parser.error("--epsilon must be above 0")
    for planners, options in OPTIONS_OF.items():
        for option in options:
            name = option[2:].replace("-", "_")
            if arguments.planner not in planners and getattr(arguments, name) != parser.get_default(name):
                parser.error(f"{option} is not for --planner {arguments.planner} but for {' and '.join(planners)}")
    return arguments


def run(arguments: argparse.Namespace, log: EventLog) -> None:
    from converter.ingest import named_model
    from converter.options import TypeOptions
    from converter.plan.cluster import parse_machines
    from converter.plan.planners.plot import plot_plan
    from converter.plan.planners.presets import PRESETS
    from converter.planning import ModelPlan, plan_model
    from converter.report.display import ConversionDisplay
    from converter.report.logged_conversion import LoggedConversion
    from output_files.claim import claimed
    from output_files.json_text import json_text
    from output_files.whole import write_whole
    from terminal.cores import available_cores

    if arguments.planner == "preset" and arguments.preset == "list":
        say(f"{name}: {preset.description}" for name, preset in PRESETS.items())
        return
    log.open([arguments.json, arguments.plot])
    request, machines = request_of(arguments), parse_machines(arguments.machine)
    outputs = [path for path in (arguments.json, arguments.plot) if path is not None]
    named = named_model(arguments.model, arguments.revision)
    model = named if isinstance(named, Path) else None
    with claimed(outputs, [model, arguments.stats, arguments.dataset]):
        with ConversionDisplay() as display:
            planned = plan_model(
                arguments.model,
                request,
                TypeOptions(tensor_types=tuple(arguments.tensor_type)),
                source_access(arguments, allow_requantize=True),
                available_cores() if arguments.threads is None else arguments.threads,
                LoggedConversion(log, display),
                machines=machines,
                context=arguments.context,
                outputs=outputs,
                needs_tensors=bool(arguments.plot or arguments.table),
            )
        say(planned.lines(arguments.context, all_tensors=arguments.table, plan_path=arguments.json))
        if arguments.json:
            write_whole(arguments.json, json_text(planned.as_plan_file(arguments.json), indent=1) + "\n")
        if arguments.plot and isinstance(planned, ModelPlan):
            plot_plan(planned.plan, planned.architecture, arguments.plot, planned.planned.decisions)
    log.ended(plan=arguments.json, bytes=planned.file.file_bytes if isinstance(planned, ModelPlan) else None)


def request_of(arguments: argparse.Namespace) -> "Request":
    """Raises OptionError, UnknownTypeError."""
    from converter.plan.planners import EwqRequest, FastEwqRequest, PresetRequest
    from converter.plan.precision_levels import LevelTable

    if arguments.planner == "preset":
        return PresetRequest(arguments.preset, arguments.type)
    if arguments.planner == "ewq":
        levels = LevelTable.changed(arguments.level)
        return EwqRequest(x=arguments.x, levels=levels, **given(variant=arguments.variant, epsilon=arguments.epsilon))
    if arguments.planner == "fastewq":
        levels, variant = LevelTable.changed(arguments.level), given(variant=arguments.variant)
        return FastEwqRequest(four_bit=arguments.four_bit, levels=levels, dataset=arguments.dataset, **variant)
    allow_partial = arguments.allow_partial_stats
    return budget_request(
        arguments, arguments.context, statistics=arguments.stats, allow_partial_statistics=allow_partial
    )


def main(words: Sequence[str] | None = None, prog: str | None = None) -> int:
    """The command line; returns the exit status."""
    arguments = parse_arguments(words, prog)
    log = EventLog(arguments.log_json, "plan")
    return run_tool(lambda arguments: run(arguments, log), arguments, log=log)
