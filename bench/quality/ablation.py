"""KL divergence of EOQ2 to EOQ6 by every method, beside llama.cpp's own types: the tables of docs/results.md.

python -m bench.quality.ablation --model 1.5b --json ablation.json

Everything is made from one F16 model and calibrated on the same tokens; embeddings and output stay F16. What is done
is kept in --work-dir under the variant's name, shrinkage and damping, so that an interrupted run goes on where it
stopped; models go once measured.
"""

import argparse
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.quality.ablation_calibration import Calibration
from bench.quality.ablation_tables import (
    AIMED_AT,
    Result,
    Results,
    against_peers,
    all_files,
    by_kind,
    by_method,
    order,
    ratios_by_kind,
)
from bench.quality.ablation_variants import METHODS, VARIANTS, Variant, Workshop
from bench.quality.texts import ALL_KINDS, DEFAULT_TEXTS, TEXTS, Examiner, chosen_texts
from converter.options import RoundingOptions, split_weight
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores
from terminal.tool import run_tool


class Ablation:
    """Makes and measures files, one after the other."""

    def __init__(self, workshop: Workshop, texts: dict[str, Path], chunks: int | None, keep_models: bool) -> None:
        self.workshop = workshop
        self.texts = texts
        self.chunks = chunks
        self.keep_models = keep_models
        (workshop.folder / "results").mkdir(parents=True, exist_ok=True)
        self._check_folder()

    def _check_folder(self) -> None:
        """Raise BenchError where the folder's files come from another model or another calibration."""
        belongs_to = {"model": self.workshop.source.name, "calibration": self.workshop.calibration.identity}
        note = self.workshop.folder / "ablation.json"
        if note.exists() and json.loads(note.read_text()) != belongs_to:
            raise BenchError(
                f"{self.workshop.folder} holds an ablation with another model or calibration; "
                "name another folder with --work-dir"
            )
        write_whole(note, json.dumps(belongs_to, indent=2) + "\n")

    def results_file(self, variant: Variant) -> Path:
        return self.workshop.folder / "results" / f"{self.workshop.label(variant)}.json"

    def known(self, variant: Variant) -> dict[str, Any]:
        """What is recorded of a variant: how it was made, and an evaluation for each text and number of chunks."""
        with suppress(OSError, ValueError):
            recorded: dict[str, Any] = json.loads(self.results_file(variant).read_text())
            return recorded
        return {"evaluations": {}}

    def key(self, text: str) -> str:
        return text if self.chunks is None else f"{text}, {self.chunks} chunks"

    def measure(self, variant: Variant) -> dict[str, Any]:
        """Make the file and evaluate it on all texts, as far as that is not done. Raises EoqError."""
        record = self.known(variant)
        missing = [text for text in self.texts if self.key(text) not in record["evaluations"]]
        if not missing:
            return record
        print(f"==> {self.workshop.label(variant)}", file=sys.stderr, flush=True)
        model, seconds, peak = self.workshop.make(variant)
        if seconds is not None:
            record["made"] = {"seconds": seconds, "peak_bytes": peak}
            self._save(variant, record)
        shop = self.workshop
        examiner = Examiner(shop.source, shop.folder, shop.programs, self.chunks, shop.threads)
        for text in missing:
            record["evaluations"][self.key(text)] = examiner.measure(model, text, self.texts[text])
            self._save(variant, record)
        if not self.keep_models:
            model.unlink()
        return record

    def _save(self, variant: Variant, record: dict[str, Any]) -> None:
        write_whole(self.results_file(variant), json.dumps(record, indent=2) + "\n")

    def remove_logits(self) -> None:
        """They take gigabytes."""
        for text in self.texts:
            for name in (f"{text}.logits", f"{text}.logits.json"):
                (self.workshop.folder / name).unlink(missing_ok=True)


def tables(results: Results, texts: list[str], method: str) -> str:
    """All of them, with headings."""
    parts = ["## All files", all_files(results, texts)]
    if any(variant.method for variant in results):
        for text in texts:
            parts += [f"## Methods: KL divergence on {text}", by_method(results, text)]
    kinds = len(texts) > 2
    # one aim after the other is not to be read for many texts, most of which have none
    aimed_at = [text for text in texts if text in AIMED_AT] if kinds else texts
    if aimed_at and (beside := against_peers(results, aimed_at, method)) is not None:
        parts += [f"## Beside llama.cpp's types (EOQ by `{method}`)", beside]
    if kinds:
        parts += ["## By kind of text: KL divergence", by_kind(results, texts)]
        if (ratios := ratios_by_kind(results, texts, method)) is not None:
            parts += [f"## By kind of text: KL divergence over the peer's (EOQ by `{method}`)", ratios]
    if len(texts) > 1:
        parts.append(order(results, texts))
    return "\n\n".join(parts)


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a regular expression ({error})") from None


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.ablation", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--model", choices=YARDSTICKS, default="1.5b", help="yardstick (default: 1.5b)")
    add("--only", type=pattern, default=pattern(""), metavar="REGEX", help="variants by name: EOQ4-both, IQ4_XS, …")
    add(
        "--texts",
        nargs="+",
        choices=(*TEXTS, ALL_KINDS),
        default=list(DEFAULT_TEXTS),
        help=f"texts to measure on (default: {' '.join(DEFAULT_TEXTS)}; {ALL_KINDS}: one of every kind, without code)",
    )
    add("--chunks", type=int, default=16, help="windows of 512 tokens of each text (default: 16; 0: the whole text)")
    add("--method", choices=METHODS, default="both", help="the method to compare with llama.cpp's (default: both)")
    add(
        "--calib",
        action="append",
        default=[],
        metavar="FILE[:WEIGHT]",
        help="calibration text, may be repeated (default: the bundled texts)",
    )
    add("--calib-tokens", type=int, default=131_072, help="tokens of it, for both sides (default: %(default)s)")
    add("--stats", type=Path, metavar="FILE", help="statistics to take in place of calibrating, for both sides")
    add("--shrinkage", type=float, help="as for convert_eoq.py (default: by the number of tokens)")
    damping = RoundingOptions().damping
    add("--damping", type=float, default=damping, help="as for convert_eoq.py (default: %(default)s)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add("--work-dir", type=Path, metavar="DIR", help="where everything is kept (default: ablation/MODEL in the cache)")
    add("--keep-models", action="store_true", help="do not delete a model once it is measured (0.8 to 2.5 GB each)")
    add("--keep-logits", action="store_true", help="keep the base's log-probabilities for another run")
    add("--json", type=Path, metavar="OUT.json", help="file for all results")
    add("--markdown", type=Path, metavar="OUT.md", help="file for the tables, which are printed anyway")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    inputs = [options.stats, *(split_weight(text)[0] for text in options.calib)]
    check_outputs([options.json, options.markdown], inputs)
    folder = options.work_dir or cache_folder() / "ablation" / options.model
    folder.mkdir(parents=True, exist_ok=True)
    source = yardstick(options.model)
    calibration = Calibration(
        source, folder, options.threads, tuple(options.calib), options.calib_tokens, given=options.stats
    )
    workshop = Workshop(
        source=source,
        calibration=calibration,
        folder=folder,
        programs=built_programs(cache_folder()),
        threads=options.threads,
        shrinkage=options.shrinkage,
        damping=options.damping,
    )
    texts = {name: path_of() for name, path_of in chosen_texts(options.texts).items()}
    ablation = Ablation(workshop, texts, options.chunks or None, options.keep_models)
    chosen = [variant for variant in VARIANTS if options.only.search(variant.name)]
    records = {variant: ablation.measure(variant) for variant in chosen}
    if not options.keep_logits:
        ablation.remove_logits()
    results = {
        variant: {text: Result.of(record["evaluations"][ablation.key(text)]) for text in texts}
        for variant, record in records.items()
    }
    printed = tables(results, list(texts), options.method)
    print(printed)
    if options.markdown:
        write_whole(options.markdown, printed + "\n")
    if options.json:
        values = {variant.name: record for variant, record in records.items()}
        write_whole(options.json, json.dumps({"model": workshop.source.name, "variants": values}, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "run again to go on where it stopped")


if __name__ == "__main__":
    sys.exit(main())
