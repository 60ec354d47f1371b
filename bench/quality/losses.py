"""What files lose against the F16 model that they are made from: what comparisons of their perplexities share."""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.quality.ablation_calibration import Calibration
from bench.quality.ablation_variants import Workshop
from bench.quality.texts import ALL_KINDS, TEXTS, Examiner, chosen_texts
from converter.options import RoundingOptions
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores


@dataclass(frozen=True)
class Loss:
    """One file on one text, beside F16."""

    perplexity: float
    base: float
    """Perplexity of F16."""
    kld: float
    kld_error: float

    @property
    def delta(self) -> float:
        return self.perplexity - self.base


def losses_of(model: Path, examiner: Examiner, texts: Mapping[str, Path]) -> dict[str, Loss]:
    """The file's loss on each text. Raises EoqError."""
    losses = {}
    for name, text in texts.items():
        evaluation = examiner.measure(model, name, text)
        (measured,) = evaluation["models"]
        base = evaluation["base"]["perplexity"]["value"]
        kld = measured["kld"]
        losses[name] = Loss(base * measured["perplexity_ratio"]["value"], base, kld["value"], kld["error"])
    return losses


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of every comparison; `stats` and `calib_tokens` are for the ones that calibrate to add."""
    parser.set_defaults(stats=None, calib_tokens=0)
    add = parser.add_argument
    add("--model", choices=YARDSTICKS, default="0.5b", help="yardstick (default: %(default)s)")
    texts = (*TEXTS, ALL_KINDS)
    add("--texts", nargs="+", choices=texts, default=["encyclopaedia"], help="to measure on (default: encyclopaedia)")
    add("--chunks", type=int, default=16, help="windows of 512 tokens of each text (default: 16; 0: the whole text)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add("--work-dir", type=Path, metavar="DIR", help="where files are made (default: a folder in the cache)")
    add("--markdown", type=Path, metavar="OUT.md", help="file for the tables, which are printed anyway")
    add("--json", type=Path, metavar="OUT.json", help="file for the figures")


@dataclass(frozen=True)
class Bench:
    """Where files are made and measured."""

    workshop: Workshop
    examiner: Examiner
    texts: Mapping[str, Path]


def prepare(options: argparse.Namespace, name: str) -> Bench:
    """By the options, with a work folder of this name in the cache by default. Raises EoqError."""
    check_outputs([options.json, options.markdown], [options.stats])
    folder = options.work_dir or cache_folder() / name / options.model
    folder.mkdir(parents=True, exist_ok=True)
    source, programs, threads = yardstick(options.model), built_programs(cache_folder()), options.threads
    calibration = Calibration(source, folder, threads, tokens=options.calib_tokens, given=options.stats)
    return Bench(
        Workshop(source, calibration, folder, programs, threads, None, RoundingOptions().damping),
        Examiner(source, folder, programs, options.chunks or None, threads),
        {text: path_of() for text, path_of in chosen_texts(options.texts).items()},
    )


def tell(options: argparse.Namespace, tables: Mapping[str, str], losses: Mapping[str, Mapping[str, Loss]]) -> None:
    """Print the tables, by text, and write them and the losses, by file and text, where the options say."""
    printed = "\n\n".join(f"### {options.model}, {text}\n\n{table}" for text, table in tables.items())
    print(printed)
    if options.markdown:
        write_whole(options.markdown, printed + "\n")
    if options.json:
        figures = {file: {text: vars(loss) for text, loss in by_text.items()} for file, by_text in losses.items()}
        write_whole(options.json, json.dumps({"model": options.model, "losses": figures}, indent=2) + "\n")
