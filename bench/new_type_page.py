"""What llama.cpp asks of a new type, measured and written as a page: docs/measured/llama_cpp_types.md.

python -m bench.new_type_page --types EOQ4T EOQ4 --against IQ4_XS Q4_K_S --rounds 5 --out page.md

All files come from one F16 model and are calibrated on the same tokens; embeddings and output stay F16. Speeds need a
machine that does nothing else; without --rounds they are left out.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.alternation import alternating
from bench.errors import BenchError
from bench.inference.llama_bench import LlamaBench, Speed
from bench.machine import describe_machine
from bench.quality.ablation_calibration import Calibration
from bench.quality.ablation_variants import Variant, Workshop
from bench.quality.texts import TEXTS
from bench.spread import Spread
from converter.options import RoundingOptions
from eoq_formats.types import WEIGHT_TYPES
from evaluation import EvaluationOptions, evaluate
from evaluation.display import EvaluationDisplay
from evaluation.report import setting, table
from ggml_patch.versions import PINNED
from gguf_files.gguf_file import GgufFile
from gguf_files.names import BLOCK
from gguf_files.tensor_types import type_name
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores
from terminal.table import markdown_table
from terminal.tool import run_tool

PROMPT, GENERATED = 512, 128
"""Tokens of llama-bench's usual tests."""
OURS = {t.name: t for t in WEIGHT_TYPES if t.width == (256 if t.is_trellis else 128)}
"""The types that a conversion is asked for by; narrower forms are taken by themselves."""


@dataclass(frozen=True)
class Setting:
    """What is measured, and how."""

    against: Sequence[str]
    """Names of llama-quantize."""
    text: str
    """One of TEXTS."""
    chunks: int | None
    rounds: int
    """Of llama-bench; 0: speeds are left out."""
    threads: int
    command: str
    """What makes the page."""


def variants(types: Sequence[str], against: Sequence[str]) -> list[Variant]:
    """The files: EOQ's as convert_eoq.py makes them by itself, which scales channels at two bits alone."""
    ours = [Variant(name, "both" if OURS[name].bits == 2 else "feedback") for name in types]
    return [*ours, *(Variant(name) for name in against)]


def race(files: Mapping[str, Path], bench: LlamaBench, rounds: int, threads: int) -> dict[str, list[Speed]]:
    """Speeds of each file, round after round in alternating order. Raises ProgramFailed."""
    speeds: dict[str, list[Speed]] = {}
    for number, (name, path) in alternating(list(files.items()), rounds):
        print(f"    round {number}: {name}", file=sys.stderr, flush=True)
        speeds.setdefault(name, []).append(bench.run(path, [threads])[threads])
    return {name: speeds[name] for name in files if name in speeds}


def speed_table(speeds: Mapping[str, Sequence[Speed]], against: Sequence[str]) -> str:
    """A row for each file: median and range, and the medians over those of each type in `against`."""
    prompt = {name: Spread.of([run.prompt for run in runs]) for name, runs in speeds.items()}
    generation = {name: Spread.of([run.generation for run in runs]) for name, runs in speeds.items()}
    head = ["type", f"pp{PROMPT} t/s", f"tg{GENERATED} t/s"]
    head += [f"{test} over {peer}" for peer in against for test in ("pp", "tg")]
    rows = []
    for name in speeds:
        ratios = [f"{by[name].median / by[peer].median:.3f}" for peer in against for by in (prompt, generation)]
        rows.append([name, prompt[name].text(1), generation[name].text(2), *ratios])
    return markdown_table(head, rows)


def type_table(files: Mapping[str, Path]) -> str:
    """Which types the matrices of the blocks really have: no row of every model fits every type."""
    rows = []
    for name, path in files.items():
        tensors = [t for t in GgufFile(path).header.tensors if BLOCK.match(t.name) and len(t.shape) > 1]
        counts = Counter(type_name(t.type) for t in tensors)
        megabytes = path.stat().st_size / 1e6
        rows.append((name, f"{megabytes:.1f}", ", ".join(f"{count} {kind}" for kind, count in counts.most_common())))
    return markdown_table(("file", "MB", "matrices of the blocks"), rows)


ASKED = (
    ("an issue before a pull request, so that interest can be seen", "not opened"),
    (
        "one change for each pull request, and the CPU alone in the first",
        "`python -m ggml_patch diff TREE`; what is for GPUs is in folders and edits of `ggml_patch` by their names",
    ),
    (
        "a small model in the new type, uploaded to Hugging Face",
        "the command below makes it, in its `--work-dir`; not uploaded",
    ),
    ("perplexity beside F16 or BF16 and types of similar size", "[below](#perplexity-and-kl-divergence)"),
    ("KL divergence from F16 or BF16, of types of similar size too", "[below](#perplexity-and-kl-divergence)"),
    ("speed beside types of similar size, on the CPU alone (`llama-bench`)", "[below](#speed)"),
    (
        "cases in `test-backend-ops`, and that it passes with two backends",
        "`tests/e2e/test_llama_cpp_own_tests.py` for the CPU; CUDA and Vulkan in [gpu.md](../gpu.md)",
    ),
    ("llama.cpp's whole CI, run before", "not run"),
    (
        "the use of AI told, each line reviewed by the person who sends it, all posts in that person's own words",
        "for whoever sends it: this page holds figures to refer to, and is no description of a pull request",
    ),
)
"""What llama.cpp's CONTRIBUTING.md asks, and what there is."""


def page(command: str, model: str, types: str, quality: str, speeds: str | None) -> str:
    """The page. `types` and `quality` are tables, `speeds` too; None where they were not measured."""
    told = speeds or (
        "Not measured here: that takes a machine that does nothing else meanwhile. The command above with `--rounds 5` "
        f"added\nmeasures it with `llama-bench` (a prompt of {PROMPT} tokens, {GENERATED} generated, on the CPU alone) "
        "and writes the page anew."
    )
    return f"""\
# What llama.cpp asks of a new type

A new tensor type is a lasting burden on those who maintain llama.cpp. Its `CONTRIBUTING.md` (of the version that the
patch is made for, in `{PINNED.package}` {PINNED.version}) asks for more than of other changes:

{_asked()}

This page is written by

    {command}

## Files

All are made from {model}, calibrated on the same tokens: moments for EOQ, their diagonal as importance matrix for
`llama-quantize`. Token embeddings and output stay F16 in all, so that sizes differ by the blocks alone. Where rows do
not divide by a type's block, both tools take another type by themselves:

{types}

## Perplexity and KL divergence

{quality}

## Speed

{told}
"""


def _asked() -> str:
    return "\n".join(["| asked | here |", "|---|---|", *(f"| {asked} | {here} |" for asked, here in ASKED)])


def ours(text: str) -> str:
    if (name := text.upper()) in OURS:
        return name
    raise argparse.ArgumentTypeError(f"{text} is none of {', '.join(OURS)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.new_type_page", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    sizes = ", ".join(YARDSTICKS)
    add("--model", default="135m", metavar="MODEL", help=f"{sizes}, or an F16 GGUF (default: 135m)")
    add("--types", nargs="+", type=ours, default=["EOQ4T", "EOQ4"], metavar="TYPE", help="default: EOQ4T EOQ4")
    add(
        "--against",
        nargs="+",
        type=str.upper,
        default=["IQ4_XS", "Q4_K_S"],
        metavar="TYPE",
        help="types of similar size, as llama-quantize calls them (default: IQ4_XS Q4_K_S)",
    )
    add("--text", choices=TEXTS, default="news", help="text to measure on (default: news)")
    add("--chunks", type=int, default=16, help="windows of 512 tokens of it (default: 16; 0: the whole text)")
    add("--calib-tokens", type=int, default=131_072, help="tokens, for both sides (default: %(default)s)")
    add("--rounds", type=int, default=0, help="runs of llama-bench for each file (default: 0, without speeds)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add("--work-dir", type=Path, metavar="DIR", help="where files are kept (default: new-type in the cache)")
    add("--out", type=Path, metavar="PAGE.md", help="file to write the page to (default: it is printed)")
    options = parser.parse_args()
    if options.chunks < 0 or options.rounds < 0:
        parser.error("--chunks and --rounds must not be negative")
    return options


def run(options: argparse.Namespace) -> None:
    source = yardstick(options.model) if options.model in YARDSTICKS else Path(options.model)
    if not source.is_file():
        raise BenchError(f"there is no model {source}; name a file, or one of {', '.join(YARDSTICKS)}")
    check_outputs([options.out], [source])
    # what lies there is used again, so it depends on what it was made of
    folder = (options.work_dir or cache_folder() / "new-type") / source.stem / f"{options.calib_tokens}-tokens"
    folder.mkdir(parents=True, exist_ok=True)
    programs = built_programs(cache_folder())
    calibration = Calibration(source, folder, options.threads, tokens=options.calib_tokens)
    damping = RoundingOptions().damping
    shop = Workshop(source, calibration, folder, programs, options.threads, None, damping)
    files = {}
    for variant in variants(options.types, options.against):
        print(f"==> {variant.name}", file=sys.stderr, flush=True)
        files[variant.type] = shop.make(variant)[0]
    chosen = Setting(
        options.against,
        options.text,
        options.chunks or None,
        options.rounds,
        options.threads,
        shlex.join(["python", "-m", "bench.new_type_page", *sys.argv[1:]]),
    )
    write_page(chosen, source, files, programs, options.out)


def write_page(chosen: Setting, source: Path, files: Mapping[str, Path], programs: Path, out: Path | None) -> None:
    """Measure the files and write the page, or print it. Raises EoqError."""
    measuring = EvaluationOptions(chunks=chosen.chunks, threads=chosen.threads, llama_bin=programs)
    with EvaluationDisplay() as display:
        found = evaluate(source, list(files.values()), TEXTS[chosen.text](), measuring, display)
    speeds = None
    if chosen.rounds:
        bench = LlamaBench(programs / "llama-bench", PROMPT, GENERATED)
        runs = race({"F16": source, **files}, bench, chosen.rounds, chosen.threads)
        told = f"{chosen.threads} threads, {chosen.rounds} rounds in alternating order, median and range:"
        machine = describe_machine().replace("\n", "\n    ")
        speeds = f"{told}\n\n    {machine}\n\n" + speed_table(runs, chosen.against)
    quality = (
        f"On text that is in no calibration, the second half of each window (`eval_eoq.py`):\n{setting(found)}.\n\n"
    )
    text = page(
        chosen.command, f"`{source.name}`", type_table({"F16": source, **files}), quality + table(found), speeds
    )
    if out is None:
        print(text, end="")
    else:
        write_whole(out, text)


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "run again to go on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
