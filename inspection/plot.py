"""A picture of a file: bits a weight by layer, and the codes of each EOQ type beside those of Gaussian weights."""

from pathlib import Path

import numpy as np

from gguf_files.names import BLOCK
from gguf_files.tensor_types import bits_per_weight
from inspection.contents import Contents
from output_files.whole import whole_or_not

_ROW_HEIGHT = 3.2
"""Inches."""


def plot_contents(contents: Contents, target: Path) -> None:
    """Write a PNG. Raises TargetError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    codes = contents.codes_by_type()
    rows = 1 + len(codes)
    figure, all_axes = pyplot.subplots(
        rows, 1, figsize=(9, 1 + _ROW_HEIGHT * rows), layout="constrained", squeeze=False
    )
    try:
        figure.suptitle(contents.name, fontsize=10)
        layers, *charts = all_axes[:, 0]
        kinds = _bits_by_kind(contents)
        for offset, (kind, (blocks, bits)) in enumerate(kinds.items()):
            # lines of one height would hide each other
            shifted = [b + 0.03 * (offset - len(kinds) / 2) for b in bits]
            layers.plot(blocks, shifted, marker=".", linewidth=1, label=kind)
        layers.set_xlabel("block")
        layers.set_ylabel("bits a weight")
        layers.margins(y=0.3)  # for the legend
        if kinds:
            layers.legend(fontsize=7, ncols=3)
        for axes, (name, counts) in zip(charts, codes.items(), strict=True):
            histogram = counts.histogram
            places = np.arange(len(histogram.labels))
            axes.bar(places, histogram.found, width=0.8, color="tab:orange", label="found")
            axes.step(places, histogram.expected, where="mid", color="tab:blue", label="of Gaussian weights")
            every = -(-len(places) // 16)
            axes.set_xticks(places[::every], [f"{value:.2f}" for value in histogram.labels[::every]], fontsize=7)
            what = "decoded value" if counts.type.is_trellis else "level of the code"
            axes.set_xlabel(f"{what}, in standard deviations")
            axes.set_ylabel("share")
            axes.set_title(
                f"{name}: entropy {counts.entropy:.3f} bits, of Gaussian weights {counts.expected_entropy:.3f}",
                fontsize=9,
            )
            axes.legend(fontsize=7)
        with whole_or_not(target) as temporary:
            figure.savefig(temporary, format="png", dpi=150)
    finally:
        pyplot.close(figure)


def _bits_by_kind(contents: Contents) -> dict[str, tuple[list[int], list[float]]]:
    """Blocks and bits a weight of each kind of matrix within blocks."""
    kinds: dict[str, tuple[list[int], list[float]]] = {}
    for entry in contents.tensors:
        match = BLOCK.fullmatch(entry.tensor.name)
        if match is not None and entry.tensor.dimensions > 1:
            blocks, bits = kinds.setdefault(match["prefix"] + match["part"].removesuffix(".weight"), ([], []))
            blocks.append(int(match["index"]))
            bits.append(bits_per_weight(entry.tensor.type))
    return kinds
