"""The ablation of the published model card, made again: what each part of the method does for the perplexity.

python -m bench.quality.model_card --model 0.5b --texts encyclopaedia news

Files of 5 bits and one fp16 scale for each block, from one F16 model, calibrated on the bundled texts; embeddings and
output stay F16. The packed ones are tools/convert_eoq.py's; the others hold in F16 what a part of the method alone
makes of the weights (bench.quality.component_grids). All are measured by the patched llama-perplexity.
"""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.quality.ablation_variants import Variant
from bench.quality.component_grids import ComponentFile, absmax, lloyd_max, rotated, write_component_file
from bench.quality.losses import Bench, Loss, add_options, losses_of, prepare, tell
from converter.statistics import open_statistics
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
    Row("EOQ5 + AWQ", Variant("EOQ5", "awq"), 6.43),
    Row("EOQ5 + error feedback", Variant("EOQ5", "feedback")),
    Row("EOQ5 + AWQ and error feedback", Variant("EOQ5", "both")),
    Row("rotation + trellis (EOQ5T)", Variant("EOQ5T", "plain")),
    Row("EOQ5T + error feedback", Variant("EOQ5T", "feedback")),
)


def table(losses: Mapping[str, Mapping[str, Loss]], text: str) -> str:
    """Losses by label and text in the card's form: perplexity, and what of the baseline's loss is gone."""
    worst = losses[BASELINE.label][text]
    head = ("configuration", "perplexity", "over F16", "loss gone %", "KLD", "KLD gone %", "card: over F16", "gone %")
    rows = [("F16", f"{worst.base:.3f}", "", "", "", "", f"{PUBLISHED_F16:.2f}", "")]
    for row in ROWS:
        loss, published = losses[row.label][text], ("", "")
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


def measure(row: Row, bench: Bench) -> dict[str, Loss]:
    """Make the file, measure it on each text, and delete it. Raises EoqError."""
    print(f"==> {row.label}", file=sys.stderr, flush=True)
    workshop = bench.workshop
    if isinstance(row.made, Variant):
        model, *_ = workshop.make(row.made)
    else:
        model = workshop.folder / "component.gguf"
        statistics = open_statistics(workshop.calibration.statistics()) if row.made.awq else None
        write_component_file(row.made, workshop.source, model, workshop.threads, statistics)
    losses = losses_of(model, bench.examiner, bench.texts)
    model.unlink()
    return losses


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.model_card", description=(__doc__ or "").splitlines()[0]
    )
    add_options(parser)
    parser.add_argument("--stats", type=Path, metavar="FILE", help="statistics to take in place of calibrating")
    parser.add_argument(
        "--calib-tokens", type=int, default=131_072, metavar="N", help="tokens to calibrate with (default: %(default)s)"
    )
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    bench = prepare(options, "model-card")
    losses = {row.label: measure(row, bench) for row in ROWS}
    tell(options, {text: table(losses, text) for text in bench.texts}, losses)


def main() -> int:
    return run_tool(run, parse_arguments())


if __name__ == "__main__":
    sys.exit(main())
