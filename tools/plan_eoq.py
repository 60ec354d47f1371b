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
    from converter.planning import Planned, Request

EXAMPLES = """\
examples:
  plan_eoq.py model-f16.gguf --target-bpw 4.25 --stats model.stats --sensitivity --json plan.json
  plan_eoq.py model-f16.gguf --fit-memory 6GiB --context 8192 --json plan.json
  plan_eoq.py model-f16.gguf --planner ewq --json plan.json --plot plan.png
  plan_eoq.py model-f16.gguf --planner ewq --variant 3bit/4bit --level 4bit=eoq4_64
  plan_eoq.py model-f16.gguf --planner preset --preset progressive --type eoq4 --json plan.json
  plan_eoq.py model-f16.gguf --planner ewq --machine localhost=8GiB --machine 192.168.1.20=16GiB,disk=40GiB \
      --json plan.json
  convert_eoq.py model-f16.gguf model-ewq.gguf --plan plan.json
"""

OPTIONS_OF = {
    ("budget",): (
        "--target-bpw",
        "--target-size",
        "--fit-memory",
        "--stats",
        "--sensitivity",
        "--calib",
        "--calib-tokens",
        "--device",
    ),
    ("ewq",): ("--x", "--epsilon"),
    ("ewq", "fastewq"): ("--variant", "--level"),
    ("fastewq",): ("--four-bit", "--dataset"),
    ("preset",): ("--preset", "--type"),
}
"""Options that only some planners heed."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        type=Path,
        help="Hugging Face model folder, GGUF file, or for fastewq a config.json",
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
    size = budget.add_mutually_exclusive_group()
    size.add_argument("--target-bpw", type=float, metavar="X", help="bits a weight over all tensors, at most")
    size.add_argument("--target-size", metavar="SIZE", help="of the file, at most: 700MB, 3.5GiB")
    size.add_argument("--fit-memory", metavar="SIZE", help="for weights, the cache of --context tokens, and buffers")
    budget.add_argument("--stats", metavar="FILE", type=Path, help="statistics or imatrix to predict losses with")
    budget.add_argument(
        "--sensitivity", action="store_true", help="measure what errors of each tensor do to the logits"
    )
    budget.add_argument("--calib", metavar="FILE", type=Path, help="text for it (default: the mixture of EOQ)")
    budget.add_argument("--calib-tokens", type=int, default=4096, metavar="N", help="of the text (default: 4096)")
    budget.add_argument("--device", default="cpu", help="PyTorch device for it: cpu (default), cuda, cuda:1, mps")
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
    ewq.add_argument("--dataset", type=Path, metavar="FILE.csv", help="fastewq: blocks to learn from")
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
    add("--threads", type=int, metavar="N", help="threads to work with (default: all cores)")
    add("--llama-dir", type=Path, metavar="DIR", help="llama.cpp tree to convert Hugging Face folders with")
    add("--work-dir", type=Path, metavar="DIR", help="where the intermediate GGUF goes (default: beside the plan)")
    arguments = parser.parse_args()
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
    for name in ("calib", "calib_tokens", "device"):
        if not arguments.sensitivity and getattr(arguments, name) != parser.get_default(name):
            parser.error(f"--{name.replace('_', '-')} is for --sensitivity, which was not asked for")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    from converter import ConversionOptions
    from converter.cluster_planning import plan_cluster
    from converter.cluster_tables import as_json, cluster_commands, cluster_lines
    from converter.display import ConversionDisplay
    from converter.ingest import open_model
    from converter.plan import FixedPlanner, as_plan_file
    from converter.plan.budget_planner import summary_lines
    from converter.plan.machines import parse_machines
    from converter.plan.memory import PlannedFile
    from converter.plan.plot import plot_plan
    from converter.plan.presets import PRESETS
    from converter.plan.tables import block_lines, size_lines, tensor_lines
    from converter.planning import make_proposals
    from converter.write import check_not_source, resolve_target

    if arguments.planner == "preset" and arguments.preset == "list":
        print("\n".join(f"{name}: {preset.description}" for name, preset in PRESETS.items()))
        return
    request = request_of(arguments)
    machines = parse_machines(arguments.machine)
    if arguments.planner == "fastewq" and (arguments.model.is_dir() or arguments.model.suffix == ".json"):
        plan_from_config(arguments)
        return
    options = ConversionOptions(
        tensor_types=tuple(arguments.tensor_type),
        llama_dir=arguments.llama_dir,
        work_dir=arguments.work_dir,
        **given(threads=arguments.threads),
    )
    targets = [resolve_target(path) for path in (arguments.json, arguments.plot) if path is not None]
    beside = targets[0] if targets else Path.cwd() / "plan.json"
    with ConversionDisplay() as display, open_model(arguments.model, beside, options, display) as model:
        for target in targets:
            check_not_source(target, model.paths)
        made = make_proposals(model, arguments.model, request, options, display)
        cluster = plan_cluster(model, made, machines, arguments.context, options) if machines else None
        proposals = cluster.proposals if cluster else made.proposals
        plan = FixedPlanner(options, proposals).plan(model.tensors, model.architecture)
        planned = PlannedFile.of(plan, model)
        architecture, name = model.architecture, model.paths[0].name
    levels = cluster.fitted.levels if cluster else ()
    if made.decisions is not None:
        print("\n".join(block_lines(made.blocks, made.decisions, levels)) + "\n")
    if arguments.table:
        print("\n".join(tensor_lines(planned)) + "\n")
    elif arguments.planner == "budget":
        print("\n".join(summary_lines(proposals, [t.tensor for t in plan.tensors])) + "\n")
    print("\n".join(size_lines(planned, arguments.context)))
    extra = {"model": name, "architecture": architecture, **about(made, arguments)}
    if cluster:
        steps = cluster_commands(cluster, arguments.model, arguments.json)
        print("\n" + "\n".join([*cluster_lines(cluster), "", *steps]))
        extra["cluster"] = {**as_json(cluster), "commands": steps}
    if arguments.json:
        write_plan(arguments.json, as_plan_file(proposals, extra))
    if arguments.plot:
        plot_plan(plan, architecture, arguments.plot, made.decisions)


def plan_from_config(arguments: argparse.Namespace) -> None:
    """FastEWQ without weights. Raises EoqError."""
    from converter.errors import OptionError
    from converter.plan import as_plan_file
    from converter.plan.fastewq import blocks_of_config
    from converter.planning import FastEwqRequest, fast_proposals
    from converter.write import resolve_target

    if arguments.plot or arguments.table or arguments.tensor_type or arguments.machine:
        raise OptionError("--plot, --table, --tensor-type and --machine need the tensors of the model; give its GGUF")
    request = request_of(arguments)
    assert isinstance(request, FastEwqRequest)
    config = arguments.model / "config.json" if arguments.model.is_dir() else arguments.model
    target = resolve_target(arguments.json) if arguments.json else None
    blocks = blocks_of_config(config)
    proposals, levels = fast_proposals(blocks, request)
    print(f"{'block':<12} {'weights':>13}  level")
    for block, level in zip(blocks, levels, strict=True):
        print(f"{block.name:<12} {block.parameters:>13,}  {level}")
    if target:
        extra = {"model": config.resolve().parent.name, "variant": request.variant}
        write_plan(target, as_plan_file(proposals, extra))


def request_of(arguments: argparse.Namespace) -> "Request":
    """Raises OptionError, UnknownTypeError."""
    from converter import CalibrationOptions
    from converter.plan.levels import LevelTable
    from converter.plan.sizes import parse_size
    from converter.planning import Budget, BudgetRequest, EwqRequest, FastEwqRequest, PresetRequest

    if arguments.planner == "preset":
        return PresetRequest(arguments.preset, arguments.type)
    if arguments.planner == "ewq":
        levels = LevelTable.changed(arguments.level)
        return EwqRequest(x=arguments.x, levels=levels, **given(variant=arguments.variant, epsilon=arguments.epsilon))
    if arguments.planner == "fastewq":
        levels, variant = LevelTable.changed(arguments.level), given(variant=arguments.variant)
        return FastEwqRequest(four_bit=arguments.four_bit, levels=levels, dataset=arguments.dataset, **variant)
    size, memory = (text and parse_size(text) for text in (arguments.target_size, arguments.fit_memory))
    sensitivity = None
    if arguments.sensitivity:
        sensitivity = CalibrationOptions(
            text=arguments.calib,
            tokens=arguments.calib_tokens,
            device=arguments.device,
            **given(threads=arguments.threads),
        )
    return BudgetRequest(Budget(arguments.target_bpw, size, memory, arguments.context), arguments.stats, sensitivity)


def about(made: "Planned", arguments: argparse.Namespace) -> dict[str, Any]:
    """EWQ's numbers for the plan file: all, then block by block in the model's order."""
    from converter.plan.softmax_entropy import EPSILON

    if made.decisions is None:
        return {}
    blocks, decisions = made.blocks, made.decisions
    return {
        "variant": arguments.variant or "4bit/8bit",
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


def write_plan(path: Path, content: dict[str, Any]) -> None:
    """Raises OSError."""
    from converter.write import whole_or_not

    with whole_or_not(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_to_the_end(run, parse_arguments())
