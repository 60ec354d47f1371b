"""Wall time and peak memory of round-to-nearest conversion to EOQ4, against llama-quantize to Q4_K and IQ4_XS.

All convert the same F16 GGUF at the same thread count, in alternating order, whole processes from start to end.

For rows that are no multiple of 256 llama-quantize takes another, cheaper type than asked: for most of the 0.5B
yardstick. On the 1.5B yardstick Q4_K and IQ4_XS apply to all rows.

python -m bench.conversion.speed --runs 5 --json convert-speed.json
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.machine import cpu_name
from bench.tool_command import tool_command
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from llama_programs.run import timed_run
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.table import markdown_table
from terminal.tool import run_tool


@dataclass
class Contender:
    """One way of converting the model, and what its runs took."""

    name: str
    command: list[str]
    target_ratio: float | None = None
    seconds: list[float] = field(default_factory=list)
    peak_bytes: list[int] = field(default_factory=list)
    output_bytes: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


AIMS = {"Q4_K": 2.0, "IQ4_XS": 5.0}
"""How many times as long as EOQ4 a type of llama.cpp should take at least."""


def contenders(model: Path, output: Path, programs: Path, threads: int, against: Sequence[str]) -> list[Contender]:
    """EOQ4 first: what the others are compared with."""
    convert = tool_command("convert_eoq.py", model, output)
    quantize = [str(programs / "llama-quantize"), "--pure", str(model), str(output)]
    return [
        Contender("EOQ4 (convert_eoq.py --rtn)", [*convert, "--rtn", "--quiet", "--threads", str(threads)]),
        *(Contender(f"{t} (llama-quantize --pure)", [*quantize, t, str(threads)], AIMS.get(t)) for t in against),
    ]


def race(runners: list[Contender], output: Path, runs: int) -> None:
    """One run of each to warm caches up, then `runs` rounds, every other one in reverse order."""
    for round_number in range(runs + 1):
        for contender in runners if round_number % 2 else reversed(runners):
            output.unlink(missing_ok=True)
            seconds, peak = timed_run(contender.command)
            contender.output_bytes = output.stat().st_size
            print(f"    round {round_number}: {contender.name} {seconds:.2f} s", file=sys.stderr, flush=True)
            if round_number:
                contender.seconds.append(seconds)
                contender.peak_bytes.append(peak)


def table(runners: list[Contender]) -> str:
    """Markdown: medians, and each median over EOQ4's."""
    reference = runners[0].median
    rows = [
        (
            c.name,
            f"{c.median:.2f}",
            f"{c.median / reference:.2f}",
            f"{c.target_ratio:.0f}" if c.target_ratio else "",
            f"{max(c.peak_bytes) / 2**20:.0f}",
            f"{c.output_bytes / 1e6:.0f}",
        )
        for c in runners
    ]
    return markdown_table(("conversion", "seconds", "over EOQ4", "aim", "peak MiB", "output MB"), rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.conversion.speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--model", type=Path, help="F16 GGUF to convert (default: the yardstick of --size)")
    parser.add_argument("--size", choices=YARDSTICKS, default="1.5b", help="yardstick (default: 1.5b)")
    parser.add_argument("--against", nargs="+", default=list(AIMS), metavar="TYPE", help="default: Q4_K IQ4_XS")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each (default: 5)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each (default: all cores)")
    parser.add_argument("--programs", type=Path, help="folder of llama-quantize (default: what tools/setup.sh built)")
    parser.add_argument("--json", type=Path, help="file for all single results")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json], [options.model])
    programs = options.programs or built_programs(cache_folder())
    model = options.model or yardstick(options.size)
    with tempfile.TemporaryDirectory(dir=model.parent, prefix=".convert-speed.") as folder:
        output = Path(folder) / "output.gguf"
        runners = contenders(model, output, programs, options.threads, options.against)
        race(runners, output, options.runs)
    setting = {"model": model.name, "threads": options.threads, "runs": options.runs, "cpu": cpu_name()}
    print(", ".join(f"{name} {value}" for name, value in setting.items()), end="\n\n")
    print(table(runners))
    if options.json:
        results = [asdict(c) | {"median": c.median, "over_eoq4": c.median / runners[0].median} for c in runners]
        write_whole(options.json, json.dumps(setting | {"conversions": results}, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
