"""The ablation of the published model card, made again: what each part of the method does for the perplexity.

python -m bench.quality.model_card --model 0.5b --texts encyclopaedia news

Files of 5 bits and one fp16 scale for each block, from one F16 model, calibrated on the bundled texts; embeddings and
output stay F16. The packed ones are tools/convert_eoq.py's; the others hold in F16 what a part of the method alone
makes of the weights (bench.quality.component_grids). All are measured by the patched llama-perplexity.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.quality.ablation_calibration import Calibration
from bench.quality.ablation_variants import Variant, Workshop
from bench.quality.component_grids import ComponentFile, absmax, lloyd_max, rotated, write_component_file
from bench.quality.losses import Loss, losses_of
from bench.quality.texts import ALL_KINDS, TEXTS, Examiner, chosen_texts
from converter.options import RoundingOptions
from converter.statistics import open_statistics
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores
from terminal.table import markdown_table
from terminal.tool import run_tool


@dataclass(frozen=True)
class Row:
    """A configuration of the table."""

    label: str
    made: ComponentFile | Variant
    published: float | None = None
    """The perplexity that the card gives it: Qwen3.5-9B on WikiText-2, where F16 has PUBLISHED_F16."""

    @property
    def is_packed(self) -> bool:
        return isinstance(self.made, Variant)


PUBLISHED_F16 = 6.37
BASELINE = Row("absmax", ComponentFile(absmax), 7.31)
ROWS = (
    BASELINE,
    Row("absmax + AWQ", ComponentFile(absmax, awq=True), 7.05),
    Row("rotation alone: absmax, rotated", ComponentFile(rotated(absmax))),
    Row("Lloyd-Max alone: not rotated", ComponentFile(lloyd_max)),
    Row("rotation + Lloyd-Max (EOQ5)", Variant("EOQ5", "plain"), 6.56),
    Row("the same + AWQ", Variant("EOQ5", "awq"), 6.43),
    Row("the same + error feedback", Variant("EOQ5", "feedback")),
    Row("the same + AWQ and error feedback", Variant("EOQ5", "both")),
    Row("rotation + trellis (EOQ5T)", Variant("EOQ5T", "plain")),
    Row("the same + error feedback", Variant("EOQ5T", "feedback")),
)


Losses = Mapping[str, Sequence[Loss]]
"""For each text, in the order of ROWS."""


def table(losses: Losses, text: str) -> str:
    """In the card's form: perplexity, and what of the baseline's loss is gone."""
    base = ROWS.index(BASELINE)
    worst = losses[text][base]
    head = ("configuration", "perplexity", "over F16", "loss gone %", "KLD", "KLD gone %", "card: over F16", "gone %")
    rows = [("F16", f"{worst.base:.3f}", "", "", "", "", f"{PUBLISHED_F16:.2f}", "")]
    for row, loss in zip(ROWS, losses[text], strict=True):
        published: tuple[str, str] = "", ""
        if row.published is not None:
            delta = row.published - PUBLISHED_F16
            assert BASELINE.published is not None
            published = f"+{delta:.2f}", _gone(delta, BASELINE.published - PUBLISHED_F16)
        rows.append(
            (
                row.label if row.is_packed else f"{row.label} *",
                f"{loss.perplexity:.3f}",
                f"{loss.delta:+.3f}",
                _gone(loss.delta, worst.delta),
                f"{loss.kld:.4f} ± {loss.kld_error:.4f}",
                _gone(loss.kld, worst.kld),
                *published,
            )
        )
    return markdown_table(head, rows)


def _gone(loss: float, baseline: float) -> str:
    return f"{100 * (1 - loss / baseline):.0f}" if baseline > 0 else ""


def measure(row: Row, workshop: Workshop, examiner: Examiner, texts: Mapping[str, Path]) -> dict[str, Loss]:
    """Make the file, measure it on each text, and delete it. Raises EoqError."""
    print(f"==> {row.label}", file=sys.stderr, flush=True)
    if isinstance(row.made, Variant):
        model, *_ = workshop.make(row.made)
    else:
        model = workshop.folder / "component.gguf"
        statistics = open_statistics(workshop.calibration.statistics())
        write_component_file(row.made, workshop.source, model, workshop.threads, statistics)
    losses = losses_of(model, examiner, texts)
    model.unlink()
    return losses


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.model_card", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("--model", choices=YARDSTICKS, default="0.5b", help="yardstick (default: %(default)s)")
    add(
        "--texts",
        nargs="+",
        choices=(*TEXTS, ALL_KINDS),
        default=["encyclopaedia"],
        help=f"texts to measure on (default: encyclopaedia; {ALL_KINDS}: one of every kind)",
    )
    add("--chunks", type=int, default=16, help="windows of 512 tokens of each text (default: 16; 0: the whole text)")
    add("--stats", type=Path, metavar="FILE", help="statistics to take in place of calibrating")
    add("--calib-tokens", type=int, default=131_072, help="tokens to calibrate with (default: %(default)s)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="for models and statistics (default: model-card/MODEL in the cache)",
    )
    add("--markdown", type=Path, metavar="OUT.md", help="file for the tables, which are printed anyway")
    add("--json", type=Path, metavar="OUT.json", help="file for the figures")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json, options.markdown], [options.stats])
    folder = options.work_dir or cache_folder() / "model-card" / options.model
    folder.mkdir(parents=True, exist_ok=True)
    source, programs, threads = yardstick(options.model), built_programs(cache_folder()), options.threads
    calibration = Calibration(source, folder, threads, tokens=options.calib_tokens, given=options.stats)
    workshop = Workshop(source, calibration, folder, programs, threads, None, RoundingOptions().damping)
    examiner = Examiner(source, folder, programs, options.chunks or None, threads)
    texts = {name: path_of() for name, path_of in chosen_texts(options.texts).items()}
    measured = [measure(row, workshop, examiner, texts) for row in ROWS]
    losses = {name: [each[name] for each in measured] for name in texts}
    printed = "\n\n".join(f"### {options.model}, {name}\n\n{table(losses, name)}" for name in texts)
    print(printed)
    if options.markdown:
        write_whole(options.markdown, printed + "\n")
    if options.json:
        figures = {name: [vars(loss) for loss in each] for name, each in losses.items()}
        record = {"model": source.name, "rows": [row.label for row in ROWS], "losses": figures}
        write_whole(options.json, json.dumps(record, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments())


if __name__ == "__main__":
    sys.exit(main())
