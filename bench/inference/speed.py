"""Speed of inference on the CPU: EOQ beside llama.cpp's types, in llama-bench of the patched llama.cpp.

All files come from one model of random weights of realistic shapes, and all their matrices have the type of the file,
token embeddings and output included (`bench/inference/files.py`). Types take turns, round after round, in alternating
order; before each round the machine's read bandwidth is measured, which is the ceiling of token generation.

python -m bench.inference.speed --rounds 5 --json inference-speed.json
python -m bench.inference.speed --experts 8 --experts-used 2 --feed-forward 1792
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.alternation import alternating
from bench.inference.files import DEFAULT_TYPES, EOQ_TYPES, LLAMA_TYPES, ModelFile, ModelFiles
from bench.inference.llama_bench import LlamaBench, Speed
from bench.inference.read_bandwidth import ReadBandwidth
from bench.inference.synthetic_model import Shape
from bench.inference.tables import Measured, Results, aims, outcomes, speeds
from bench.machine import cache_bytes, describe_machine, machine
from bench.spread import Spread
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores
from terminal.tool import run_tool


@dataclass
class Race:
    """What the rounds gave so far, by number of threads."""

    threads: Sequence[int]
    bandwidth: dict[int, list[float]] = field(default_factory=dict)
    """GB/s."""
    speeds: dict[str, dict[int, list[Speed]]] = field(default_factory=dict)

    def run(self, files: Sequence[ModelFile], rounds: int, bench: LlamaBench, memory: ReadBandwidth) -> None:
        """Raises ProgramFailed."""
        measured_before = 0
        for number, file in alternating(files, rounds):
            if number > measured_before:
                measured_before = number
                for count in self.threads:
                    self.bandwidth.setdefault(count, []).append(memory.measure(count))
            for count, speed in bench.run(file.path, self.threads).items():
                self.speeds.setdefault(file.type, {}).setdefault(count, []).append(speed)
                said = f"pp {speed.prompt:.1f} t/s, tg {speed.generation:.2f} t/s"
                print(f"    round {number}: {file.type} -t {count}: {said}", file=sys.stderr, flush=True)

    def results(self, files: Sequence[ModelFile], threads: int) -> Results:
        """In the order of `files`."""
        found = {}
        for file in files:
            runs = self.speeds[file.type][threads]
            found[file.type] = Measured(
                bytes_per_weight=file.bytes_per_weight,
                bytes_per_token=file.bytes_per_token,
                prompt=Spread.of([run.prompt for run in runs]),
                generation=Spread.of([run.generation for run in runs]),
            )
        return found


def report(race: Race, files: Sequence[ModelFile], against: Sequence[str], tokens: tuple[int, int]) -> str:
    """Markdown: the tables of each number of threads."""
    parts = []
    for count in race.threads:
        results, bandwidth = race.results(files, count), Spread.of(race.bandwidth[count])
        parts.append(f"## {count} thread{'s' if count > 1 else ''}, read bandwidth {bandwidth.text(1)} GB/s")
        parts.append(speeds(results, bandwidth, against, tokens))
        if (compared := aims(results, tokens)) is not None:
            parts.append(compared)
    small = [file.type for file in files if file.bytes_per_token < 4 * cache_bytes(3)]
    if small:
        parts.append(f"Caches hold much of the weights that a token reads of {', '.join(small)}: take a larger model.")
    return "\n\n".join(parts)


def as_json(race: Race, files: Sequence[ModelFile]) -> list[dict[str, Any]]:
    """All single results, by number of threads."""
    found = []
    for count in race.threads:
        results = race.results(files, count)
        types = {name: asdict(m) | {"bytes_per_second": m.bytes_per_second} for name, m in results.items()}
        aimed = [asdict(o) | {"is_met": o.is_met} for o in outcomes(results)]
        found.append({"threads": count, "bandwidth": race.bandwidth[count], "types": types, "aims": aimed})
    return found


def known_type(text: str) -> str:
    if (name := text.upper()) in (*EOQ_TYPES, *LLAMA_TYPES):
        return name
    raise argparse.ArgumentTypeError(f"{text} is none of {', '.join((*EOQ_TYPES, *LLAMA_TYPES))}")


def thread_counts(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        counts = ()
    if not counts or min(counts) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers of threads, such as 1,2")
    return counts


def parse_arguments() -> argparse.Namespace:
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m bench.inference.speed", description=description)
    add, shape = parser.add_argument, Shape()
    add("--types", nargs="+", type=known_type, default=list(DEFAULT_TYPES), metavar="TYPE", help="default: all usual")
    add("--against", nargs="+", type=known_type, default=["Q4_K", "IQ4_XS"], metavar="TYPE", help="types to compare to")
    add("--rounds", type=int, default=5, help="runs of each type (default: 5)")
    add("--threads", type=thread_counts, default=(available_cores(),), metavar="N[,N…]", help="default: all cores")
    add("--prompt", type=int, default=512, metavar="TOKENS", help="length of the prompt (default: 512)")
    add("--generate", type=int, default=128, metavar="TOKENS", help="tokens to generate (default: 128)")
    add("--gpu-layers", type=int, default=0, metavar="N", help="layers on the GPU (default: 0, all on the CPU)")
    add("--llama-bin", type=Path, metavar="DIR", help="llama-bench and llama-quantize (default: tools/setup.sh's)")
    add("--work-dir", type=Path, metavar="DIR", help="where models are kept (default: inference-speed in the cache)")
    add("--json", type=Path, metavar="OUT.json", help="file for all single results")
    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--hidden", type=int, default=shape.hidden, help=f"default: {shape.hidden}, in heads of 64")
    add("--feed-forward", "--ff", type=int, default=shape.feed_forward, help=f"default: {shape.feed_forward}")
    add("--layers", type=int, default=shape.layers, help=f"default: {shape.layers}")
    add("--vocabulary", type=int, default=shape.vocabulary, help=f"tokens (default: {shape.vocabulary})")
    add("--experts", type=int, default=0, help="experts of each layer (default: a dense model)")
    add("--experts-used", type=int, metavar="K", help="experts that each token uses (default: 2)")
    options = parser.parse_args()
    if min(options.rounds, options.prompt, options.generate) < 1:
        parser.error("--rounds, --prompt and --generate must be at least 1")
    if options.gpu_layers < 0:
        parser.error("--gpu-layers must be at least 0")
    return options


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json])
    used = options.experts_used if options.experts_used is not None else 2 if options.experts else 0
    sizes = (options.hidden, options.feed_forward, options.layers, options.vocabulary)
    shape = Shape(*sizes, options.experts, used)
    programs: Path = (options.llama_bin or built_programs(cache_folder())).absolute()
    folder = (options.work_dir or cache_folder() / "inference-speed") / shape.name
    models = ModelFiles(shape, folder, programs, available_cores())
    files = [models.make(name) for name in dict.fromkeys(options.types)]
    bench = LlamaBench(programs / "llama-bench", options.prompt, options.generate, options.gpu_layers)
    race = Race(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        race.run(files, options.rounds, bench, ReadBandwidth.compiled(Path(scratch)))
    print(f"{shape.name}, {options.rounds} rounds\n{describe_machine()}\n")
    print(report(race, files, options.against, (options.prompt, options.generate)))
    if options.json:
        setting = {"model": asdict(shape), "machine": machine(), "rounds": options.rounds, "programs": str(programs)}
        setting |= {"prompt_tokens": options.prompt, "generated_tokens": options.generate}
        setting |= {"gpu_layers": options.gpu_layers}
        write_whole(options.json, json.dumps(setting | {"threads": as_json(race, files)}, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "the models made so far are kept")


if __name__ == "__main__":
    sys.exit(main())
