"""Speed of each kernel alone, in one thread: matrix products, dequantisation, and quantisation of activations.

The kernels are compiled by themselves, without llama.cpp. Data comes from the L2 cache, or from memory when calls go
around a buffer of four times the L3 cache; a plain sum of the same bytes, measured in the same run, is what any kernel
could reach at best. Only processor time counts, and the clock's rate is measured, so that cycles can be told.

python -m bench.kernels.speed --march native x86-64-v3
python -m bench.kernels.speed --march native x86-64-v3 --kernels mul_mat --columns 1 --instructions
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.alternation import alternating
from bench.c_program import cpu_flags
from bench.kernels.runs import KERNELS, KernelProgram, Measurement, Work, works
from bench.machine import cache_bytes, describe_machine, machine
from bench.spread import Spread
from eoq_formats.types import WEIGHT_TYPES, WeightType, weight_type
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.table import markdown_table
from terminal.tool import run_tool

Results = dict[Work, list[Measurement]]
"""A measurement for each round."""


def measure(
    programs: Mapping[str, KernelProgram], todo: Sequence[Work], options: argparse.Namespace
) -> dict[str, Results]:
    """By target. All targets take turns. Raises ProgramFailed."""
    results: dict[str, Results] = {target: {} for target in programs}
    pairs = [(target, work) for work in todo for target in programs]
    begun = 0
    for number, (target, work) in alternating(pairs, options.rounds):
        if number > begun:
            begun = number
            print(f"    round {number} of {options.rounds}", file=sys.stderr, flush=True)
        results[target].setdefault(work, []).append(programs[target].measure(work, options.milliseconds))
    return {target: {work: results[target][work] for work in todo} for target in programs}


def count_instructions(program: KernelProgram, todo: Sequence[Work]) -> dict[Work, float]:
    """Instructions a weight. Data in the cache or not is the same. Raises ProgramFailed."""
    counts = {}
    for work in todo:
        if work.slices == 1:
            counts[work] = program.instructions_per_weight(work)
            print(f"    {work.symbol}, {work.columns} columns: instructions counted", file=sys.stderr, flush=True)
    return counts


def table(results: Results, instructions: Mapping[Work, float]) -> str:
    """Markdown: medians over the rounds, of speeds with their spread."""
    has_clock = all(m.gigahertz for runs in results.values() for m in runs)
    head = ["kernel", "type", "columns", "data in", "GB/s", "of read speed", "multiply-adds/ns", "over portable"]
    head += ["weights/cycle"] * has_clock + ["instructions/weight"] * bool(instructions)
    rows = []
    for work, runs in results.items():
        multiplies = work.kernel == "mul_mat"
        row = [
            work.kernel,
            work.type.name,
            str(work.columns) if multiplies else "",
            "cache" if work.slices == 1 else "memory",
        ]
        row.append(Spread.of([m.gigabytes_per_second for m in runs]).text(2))
        row.append(f"{Spread.of([m.of_read_speed for m in runs]).median:.0%}")
        row.append(f"{Spread.of([m.multiply_adds for m in runs]).median:.2f}" if multiplies else "")
        over = [m.over_portable for m in runs if m.over_portable is not None]
        row.append(f"{Spread.of(over).median:.1f}" if over else "")
        if has_clock:
            row.append(f"{Spread.of([m.weights_per_cycle or 0 for m in runs]).median:.3g}")
        if instructions:
            row.append(f"{instructions[work]:.3f}" if work in instructions else "")
        rows.append(row)
    return markdown_table(head, rows)


def as_json(results: Results, instructions: Mapping[Work, float]) -> list[dict[str, object]]:
    """All single results."""
    rows = []
    for work, runs in results.items():
        single = [{name: value for name, value in asdict(m).items() if name != "work"} for m in runs]
        entry = asdict(work) | {"type": work.type.name, "instructions_per_weight": instructions.get(work)}
        rows.append(entry | {"runs": single})
    return rows


def wanted_types(names: Sequence[str]) -> list[WeightType]:
    """Raises UnknownTypeError."""
    return list(WEIGHT_TYPES) if "all" in names else list(dict.fromkeys(weight_type(name) for name in names))


def parse_arguments() -> argparse.Namespace:
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench.kernels.speed", description=description)
    add = parser.add_argument
    add("--march", nargs="+", default=["native"], metavar="TARGET", help="native (default), x86-64-v3,avxvnni, …")
    add("--types", nargs="+", default=["eoq2", "eoq3", "eoq4", "eoq5", "eoq6"], metavar="TYPE", help="or `all`")
    add("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS), help="default: all")
    add("--columns", nargs="+", type=int, default=[1, 4, 32, 512], metavar="N", help="default: 1 4 32 512")
    add("--k", type=int, default=2048, help="length of rows (default: 2048)")
    add("--rows", type=int, help="rows of a call (default: as many as half of the L2 cache holds)")
    add("--rounds", type=int, default=3, help="default: 3")
    add("--milliseconds", type=int, default=50, help="least time of a measurement (default: 50)")
    add("--instructions", action="store_true", help="count them too, by single steps (Linux)")
    add("--json", type=Path, metavar="OUT.json", help="file for all single results")
    options = parser.parse_args()
    if min(options.rounds, options.milliseconds, options.k, *options.columns) < 1 or (options.rows or 1) < 1:
        parser.error("numbers must be at least 1")
    return options


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json])
    cached, uncached = cache_bytes(2) // 2, 4 * cache_bytes(3)
    todo = works(
        options.kernels, wanted_types(options.types), options.columns, options.k, options.rows, cached, uncached
    )
    with tempfile.TemporaryDirectory() as scratch:
        programs = {
            target: KernelProgram.compiled(Path(scratch) / f"kernels-{target}", ["-O3", *cpu_flags(target)])
            for target in dict.fromkeys(options.march)
        }
        # first, since it may be impossible
        counts = {t: count_instructions(p, todo) if options.instructions else {} for t, p in programs.items()}
        results = measure(programs, todo, options)
    print(f"rows of {options.k}, {options.rounds} rounds\n{describe_machine()}")
    for target in programs:
        clock = Spread.of([m.gigahertz for runs in results[target].values() for m in runs])
        print(f"\n## {target}, clock {clock.text(2)} GHz\n\n{table(results[target], counts[target])}")
    if options.json:
        by_target = {target: as_json(results[target], counts[target]) for target in programs}
        write_whole(options.json, json.dumps({"machine": machine(), "targets": by_target}, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
