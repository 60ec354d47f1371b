"""Planners of types side by side, each beside the budget planner at the size of its file: tables of docs/results.md.

python -m bench.quality.planners --model 0.5b --stats model.stats

All files are made from one F16 model with one set of statistics, by error feedback; embeddings and output stay F16.
What is measured is kept in --work-dir by plan and statistics, so that an interrupted run goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.quality.ablation_tables import Result
from bench.quality.ablation_variants import KEPT
from bench.quality.texts import DEFAULT_TEXTS, Examiner
from bench.tool_command import tool_command
from converter.ingest.open_model import open_model
from converter.options import SourceAccess, TypeOptions
from converter.plan import Proposals, as_plan_file, resolve_plan
from converter.plan.keep_rules import weights_to_plan
from converter.plan.memory import PlannedFile, header_bytes
from converter.plan.planners import (
    Budget,
    BudgetRequest,
    EwqRequest,
    FastEwqRequest,
    PresetRequest,
    Request,
    make_proposals,
)
from converter.plan.planners.budget import propose_within
from converter.plan.planners.propose import predicted_losses
from converter.plan.precision_levels import LADDERS
from gguf_files.names import OUTPUT, TOKEN_EMBEDDINGS
from gguf_files.source import Source
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder, sha256_of
from llama_programs.run import timed_run
from material.models import YARDSTICKS, yardstick
from output_files.whole import write_whole
from terminal.cores import available_cores
from terminal.progress import Progress
from terminal.table import markdown_table
from terminal.tool import run_tool

PLANS: Mapping[str, Request] = {
    "8-bit throughout": PresetRequest("uniform", "q8_0"),
    "EOQ3 throughout": PresetRequest("uniform", "eoq3"),
    "EOQ4 throughout": PresetRequest("uniform", "eoq4"),
    "EWQ 8bit": EwqRequest("8bit"),
    "EWQ 4bit/8bit": EwqRequest("4bit/8bit"),
    "EWQ 3bit/4bit": EwqRequest("3bit/4bit"),
    "FastEWQ 8bit": FastEwqRequest("8bit"),
    "FastEWQ 4bit/8bit": FastEwqRequest("4bit/8bit"),
}


@dataclass(frozen=True)
class Pair:
    """A plan, and the budget planner's for the same size."""

    name: str
    plan: Proposals
    budget: Proposals
    bytes: int
    """Size of the plan's file."""


def budget_name(name: str) -> str:
    return f"budget, as {name}"


def make_pairs(path: Path, statistics: Path, threads: int) -> list[Pair]:
    """Plan with all of PLANS; losses are predicted once. Raises EoqError."""
    types, progress = TypeOptions(tensor_types=(KEPT,)), Progress()
    request = BudgetRequest(Budget(file_bytes=1), statistics)
    with open_model(path, Path("plan.json"), SourceAccess(), threads, progress) as source:
        plans = {name: make_proposals(source, plan, types, threads, progress).proposals for name, plan in PLANS.items()}
        sizes = {name: _file_bytes(proposals, source, types) for name, proposals in plans.items()}
        fixed = {t.name: t.type for t in source.tensors if t.name in (TOKEN_EMBEDDINGS, OUTPUT)}
        tensors = [t for t in weights_to_plan(source.tensors, source.architecture) if t.name not in fixed]
        losses = predicted_losses(source, request, tensors, threads, progress)
        return [
            Pair(
                name,
                proposals,
                propose_within(
                    sizes[name] - header_bytes(source),
                    source.tensors,
                    source.architecture,
                    losses,
                    fixed,
                    LADDERS["scalar"],
                ),
                sizes[name],
            )
            for name, proposals in plans.items()
        ]


def _file_bytes(proposals: Proposals, source: Source, types: TypeOptions) -> int:
    plan = resolve_plan(source.tensors, source.architecture, types, proposals)
    return PlannedFile.of(plan, source).file_bytes


class Bench:
    """Makes and measures files, one after the other."""

    def __init__(self, source: Path, statistics: Path, folder: Path, chunks: int | None, threads: int) -> None:
        self.source = source
        self.statistics = statistics
        self.folder = folder
        self.statistics_key = sha256_of(statistics)[:12]
        self.chunks = chunks
        self.threads = threads
        self.programs = built_programs(cache_folder())
        folder.mkdir(parents=True, exist_ok=True)

    def measure(self, proposals: Proposals) -> dict[str, Result]:
        """Result by text; kept under the plan's types and the statistics. Raises EoqError."""
        record = self.folder / f"{proposals.digest}-{self.statistics_key}-{self.chunks or 'all'}.json"
        if not record.exists():
            measured = self._measured(proposals)
            write_whole(record, json.dumps(measured, indent=1) + "\n")
        return {text: Result.of(one) for text, one in json.loads(record.read_text()).items()}

    def _measured(self, proposals: Proposals) -> dict[str, Any]:
        plan, model = self.folder / "plan.json", self.folder / f"{proposals.digest}-{self.statistics_key}.gguf"
        write_whole(plan, json.dumps(as_plan_file(proposals, {})))
        if not model.exists():
            command = tool_command("convert_eoq.py", self.source, model)
            command += ["--plan", str(plan), "--stats", str(self.statistics), "--awq", "off", "--quiet"]
            kept = ["--tensor-type", KEPT]
            timed_run([*command, *kept, "--threads", str(self.threads)])
        examiner = Examiner(self.source, self.folder, self.programs, self.chunks, self.threads)
        results = {text: examiner.measure(model, text, path_of()) for text, path_of in DEFAULT_TEXTS.items()}
        model.unlink()
        return results


def table(results: Mapping[str, Mapping[str, Result]]) -> str:
    """Every plan beside the budget planner's of the same size, by size."""
    head = ["plan", "MB", "bpw of blocks"]
    for text in DEFAULT_TEXTS:
        head += [f"{text}: KLD", "perplexity over F16", "over the other plan of this size"]
    rows = []
    names = sorted((name for name in PLANS if name in results), key=lambda name: results[name]["news"].bytes)
    for name in names:
        for one, other in ((name, budget_name(name)), (budget_name(name), name)):
            measured = results[one]
            any_text = next(iter(measured.values()))
            row = [one, f"{any_text.bytes / 1e6:.1f}", f"{any_text.block_bits_per_weight:.3f}"]
            for text in DEFAULT_TEXTS:
                r = measured[text]
                ratio = f"{r.kld / results[other][text].kld:.3f}"
                row += [f"{r.kld:.5f} ± {r.kld_error:.5f}", f"{r.perplexity_ratio:.4f}", ratio]
            rows.append(row)
    return markdown_table(head, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.planners", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--model", choices=YARDSTICKS, default="0.5b", help="yardstick (default: 0.5b)")
    add("--stats", type=Path, required=True, metavar="FILE", help="statistics of it, by stats_eoq.py collect")
    add("--chunks", type=int, default=8, help="windows of 512 tokens of each text (default: 8; 0: the whole text)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add("--work-dir", type=Path, metavar="DIR", help="where results are kept (default: planners/MODEL in the cache)")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    folder = options.work_dir or cache_folder() / "planners" / options.model
    source = yardstick(options.model)
    pairs = make_pairs(source, options.stats, options.threads)
    bench = Bench(source, options.stats, folder, options.chunks or None, options.threads)
    results = {}
    for pair in pairs:
        for name, proposals in ((pair.name, pair.plan), (budget_name(pair.name), pair.budget)):
            print(f"==> {name}", file=sys.stderr, flush=True)
            results[name] = bench.measure(proposals)
    print(table(results))


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "run again to go on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
