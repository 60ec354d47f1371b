"""Pictures of a plan: bits a weight over depth, and entropies where there are any."""

from pathlib import Path

from converter.plan.blocks import blocks_of
from converter.plan.plan import Plan
from converter.plan.planners.ewq import Decisions
from output_files.whole import whole_or_not

_COLOURS = ("tab:red", "tab:orange", "tab:blue", "tab:green", "tab:purple")


def plot_plan(plan: Plan, architecture: str, target: Path, decisions: Decisions | None = None) -> None:
    """Write a PNG: bits a weight of each matrix by block, a line for each kind of matrix; above it the entropy of each
    block with mean, threshold and decision, where `decisions` are given. Raises TargetError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    bits = {t.tensor.name: t.bits_per_weight for t in plan.tensors}
    matrices = blocks_of([t.tensor for t in plan.tensors], architecture)
    numbers = range(len(matrices))
    figure, axes = pyplot.subplots(
        1 if decisions is None else 2, 1, figsize=(9, 4 if decisions is None else 7), layout="constrained", sharex=True
    )
    try:
        lower = axes if decisions is None else axes[1]
        kinds = dict.fromkeys(t.name.removeprefix(f"{block}.") for block, ts in matrices.items() for t in ts)
        for offset, kind in enumerate(kinds):
            places = [(i, bits[f"{b}.{kind}"]) for i, b in enumerate(matrices) if f"{b}.{kind}" in bits]
            # lines of one height would hide each other
            shifted = [b + 0.03 * (offset - len(kinds) / 2) for _, b in places]
            lower.plot([i for i, _ in places], shifted, marker=".", linewidth=1, label=kind.removesuffix(".weight"))
        lower.set_xlabel("block")
        lower.set_ylabel("bits a weight")
        lower.legend(fontsize=7, ncols=3)
        if decisions is not None:
            upper = axes[0]
            for colour, level in zip(_COLOURS, dict.fromkeys(decisions.levels), strict=False):
                chosen = [i for i in numbers if decisions.levels[i] == level]
                upper.scatter(chosen, [decisions.entropies[i] for i in chosen], color=colour, label=level, zorder=2)
            upper.axhline(decisions.mean, color="0.4", linewidth=1, label="mean")
            upper.axhline(decisions.threshold, color="0.4", linewidth=1, linestyle="--", label="threshold")
            upper.set_ylabel("entropy, nats")
            upper.legend(fontsize=7)
        with whole_or_not(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    finally:
        pyplot.close(figure)
