"""A picture of an evaluation: KL divergence over file size."""

from pathlib import Path

from evaluation.errors import EvaluationError
from evaluation.measurement import Evaluation, Measurement
from evaluation.report import names
from output_files.whole import whole_or_not

_FLOOR = 1e-6
"""Smallest divergence that is drawn: llama-perplexity stores the base's log-probabilities in 16 bits."""


def plot(evaluation: Evaluation, target: Path) -> None:
    """Write a PNG: mean KLD (logarithmic, with its standard error) over MB (10^6 bytes), EOQ files in a colour of
    their own, a step line along the files that no other one beats in both. Raises EvaluationError, TargetError."""
    if not evaluation.measurements:
        raise EvaluationError("there is nothing to plot: no model was evaluated")
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 6), layout="constrained")
    try:
        best = _front(evaluation.measurements)
        axes.step([_x(m) for m in best], [_y(m) for m in best], where="post", color="0.8", linewidth=1, zorder=1)
        for eoq, label, colour, marker in ((True, "EOQ", "tab:orange", "o"), (False, "others", "tab:blue", "s")):
            group = [m for m in evaluation.measurements if m.model.has_eoq_types == eoq]
            if group:
                errors = [min(m.divergence.kld.error, 0.9 * _y(m)) for m in group]
                axes.errorbar(
                    [_x(m) for m in group], [_y(m) for m in group], yerr=errors,
                    fmt=marker, color=colour, label=label, markersize=5, capsize=2,
                )  # fmt: skip
        labels = names([m.model.path for m in evaluation.measurements])
        for name, m in zip(labels, evaluation.measurements, strict=True):
            text = name.removesuffix(".gguf")
            axes.annotate(text, (_x(m), _y(m)), xytext=(6, 4), textcoords="offset points", fontsize=7)
        axes.set_yscale("log")
        axes.margins(x=0.12)  # for the names on the right
        axes.set_xlabel("file size, MB")
        axes.set_ylabel("mean KL divergence from the base, nats a token")
        axes.set_title(
            f"{evaluation.base.path.name}: {evaluation.chunks} x {evaluation.context} tokens of {evaluation.text.name}",
            fontsize=10,
        )
        axes.grid(True, which="both", color="0.93")
        axes.set_axisbelow(True)
        axes.legend()
        with whole_or_not(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    finally:
        pyplot.close(figure)


def _x(measurement: Measurement) -> float:
    return measurement.model.bytes / 1e6


def _y(measurement: Measurement) -> float:
    return max(measurement.divergence.kld.value, _FLOOR)


def _front(measurements: tuple[Measurement, ...]) -> list[Measurement]:
    """Files for which every smaller one has a larger divergence, by size."""
    best: list[Measurement] = []
    for m in sorted(measurements, key=lambda m: (m.model.bytes, _y(m))):
        if not best or _y(m) < _y(best[-1]):
            best.append(m)
    return best
