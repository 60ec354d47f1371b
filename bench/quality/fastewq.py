"""FastEWQ's classifiers, cross-validated by row and by model, beside the paper's figures.

python -m bench.quality.fastewq --roc roc.png
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.quality.fastewq_comparison import (
    PAPER_ACCURACY,
    Score,
    by_model,
    by_row,
    check_enough,
    importances,
    majority,
    reproduced,
)
from converter.plan.planners.fastewq import DATASET, read_dataset
from output_files.target import check_outputs
from output_files.whole import whole_or_not
from terminal.tool import run_tool

HEAD = ("classifier", "accuracy", "the paper's", "precision", "recall", "F1", "AUC", "TN / FN / FP / TP")


def table(scores: Mapping[str, Score]) -> str:
    """Markdown."""
    lines = ["| " + " | ".join(HEAD) + " |", "|---" + "|--:" * (len(HEAD) - 1) + "|"]
    for name, s in scores.items():
        numbers = [f"{x:.2f}" for x in (s.accuracy, PAPER_ACCURACY[name], s.precision, s.recall, s.f1, s.auc)]
        lines.append(f"| {name} | {' | '.join(numbers)} | {' / '.join(map(str, s.confusion))} |")
    return "\n".join(lines)


def plot_roc(rows: Mapping[str, Score], models: Mapping[str, Score], target: Path) -> None:
    """Write a PNG with the curves of all classifiers, by row and by model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, 2, figsize=(10, 5), layout="constrained")
    for axes, title, scores in zip(both, ("by row", "by model"), (rows, models), strict=True):
        for name, score in scores.items():
            axes.plot(*score.roc, label=f"{name} ({score.auc:.2f})", linewidth=1)
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
        axes.set_title(title)
        axes.set_xlabel("false positive rate")
        axes.set_ylabel("true positive rate")
        axes.legend(fontsize=7)
    with whole_or_not(target) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
    pyplot.close(figure)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.fastewq", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--dataset", type=Path, default=DATASET, metavar="FILE.csv", help="default: the one of EOQ")
    parser.add_argument("--roc", type=Path, metavar="OUT.png", help="picture of the ROC curves")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    check_outputs([options.roc], [options.dataset])
    dataset = read_dataset(options.dataset)
    check_enough(dataset)
    rows, models = by_row(dataset), by_model(dataset)
    if options.roc:
        plot_roc(rows, models, options.roc)
    shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in importances(dataset).items())
    print(f"{len(dataset.rows)} blocks of {len(set(dataset.models))} models; always the commoner answer: "
          f"{majority(dataset):.2f}")  # fmt: skip
    print(f"the forest trained on everything gives back {100 * reproduced(dataset):.1f} % of the rows")
    print(f"importances: {shares}")
    print(f"\n## By row: ten folds\n\n{table(rows)}\n\n## By model: each from all others\n\n{table(models)}")


def main() -> int:
    return run_tool(run, parse_arguments(), lambda options: "nothing is kept")


if __name__ == "__main__":
    sys.exit(main())
