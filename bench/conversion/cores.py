"""How well rounding with error feedback uses more threads: many small experts beside few large ones.

    python -m bench.conversion.cores --types eoq4 eoq4t --threads 1 2

As many weights in both, with random moments; seconds are those of the report, medians over the runs.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from bench.errors import BenchError
from bench.machine import cpu_name
from bench.tool_command import tool_command
from converter.statistics import fingerprint
from converter.statistics.moments_file import InputLayout, StatisticsHead, StatisticsWriter
from converter.statistics.triangle import Floats, pack
from gguf_files.source import open_gguf
from terminal.cores import available_cores
from terminal.table import markdown_table
from terminal.tool import run_tool

ROW = 2048
SHAPES = {"blk.0.ffn_up_exps.weight": (64, 768), "blk.1.ffn_up_exps.weight": (8, 6144)}
"""Experts, and rows in each: those of Qwen3-30B-A3B, and as many weights in large ones."""
_TOKENS = 10**5


def write_model(path: Path, share: int) -> None:
    """One part in `share` of the experts, in F16."""
    random = np.random.default_rng(1)
    writer = GGUFWriter(path, "llama")
    for name, (experts, rows) in SHAPES.items():
        weights = random.standard_normal((experts // share, rows, ROW), dtype=np.float32) * np.float32(0.02)
        writer.add_tensor(name, weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_statistics(path: Path, model: Path, share: int) -> None:
    """Moments for each expert, of inputs whose neighbours are correlated."""
    layouts = [
        InputLayout(name.removesuffix(".weight"), ROW, experts // share, False, (name,))
        for name, (experts, _) in SHAPES.items()
    ]
    head = StatisticsHead(fingerprint(open_gguf(model)), _TOKENS, "random", (), tuple(layouts))
    place = np.arange(ROW)
    with StatisticsWriter(path, head) as writer:
        for layout in layouts:
            energy = np.random.default_rng(2).uniform(0.5, 2, (layout.experts, ROW)).astype(np.float32)

            def moments(energy: Floats = energy) -> Iterator[Floats]:
                for root in np.sqrt(energy):
                    correlation = np.float32(0.9) ** np.abs(place[:, None] - place)
                    yield from pack((correlation * root[:, None] * root).astype(np.float32))

            writer.write(moments(), energy, np.full(layout.experts, float(_TOKENS)))
        writer.commit()


def seconds(model: Path, moments: Path, target: Path, name: str, threads: int) -> dict[str, float]:
    """Of each tensor in one conversion. Raises BenchError."""
    options = ("--stats", moments, "--type", name, "--threads", str(threads), "--quiet")
    ended = subprocess.run(tool_command("convert_eoq.py", model, target, *options), capture_output=True, text=True)
    if ended.returncode:
        raise BenchError(ended.stderr.strip().removeprefix("error: "))
    report = json.loads(target.with_suffix(".report.json").read_text())
    return {tensor["name"]: tensor["seconds"] for tensor in report["tensors"]}


def table(types: Sequence[str], threads: Sequence[int], runs: int, share: int) -> str:
    """A row for each type and number of threads."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        model, moments = Path(folder) / "model.gguf", Path(folder) / "model.stats"
        write_model(model, share)
        write_statistics(moments, model, share)
        for name in types:
            first: dict[str, float] = {}
            for count in threads:
                found = [seconds(model, moments, Path(folder) / "out.gguf", name, count) for _ in range(runs)]
                medians = {tensor: statistics.median(run[tensor] for run in found) for tensor in SHAPES}
                first = first or medians
                told = [f"{medians[t]:.1f} ({first[t] / medians[t]:.2f})" for t in SHAPES]
                rows.append([name.upper(), str(count), *told])
    shapes = [f"{experts // share} of {height} x {ROW}: s" for experts, height in SHAPES.values()]
    return markdown_table(["type", "threads", *(f"{shape} (speed over {threads[0]})" for shape in shapes)], rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--types", nargs="+", default=["eoq4", "eoq4t"], metavar="TYPE", help="default: eoq4 eoq4t")
    add("--threads", nargs="+", type=int, default=[1, available_cores()], metavar="N", help="default: 1 and all cores")
    add("--runs", type=int, default=3, metavar="N", help="default: 3")
    add("--share", type=int, choices=(1, 2, 4, 8), default=4, help="one part in so many of the experts (default: 4)")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    print(cpu_name())
    print(table(options.types, options.threads, options.runs, options.share))


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
