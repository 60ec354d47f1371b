"""INT4 of torchao, made of the weights themselves and of what EOQ5 has made of them.

python -m bench.quality.torchao_int4 --model 0.5b --texts encyclopaedia news

The grid is that of Int4WeightOnlyConfig(group_size=128), by torchao's own functions: 16 steps between the least and the
greatest weight of each group, which is 64 wide where EOQ5's blocks are. Its kernels need a GPU; here the weights that
they would multiply by are stored in F16 and measured by the patched llama-perplexity. Embeddings and output stay F16.
Needs torchao (pip install torchao).
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bench.errors import BenchError
from bench.quality.ablation_variants import Variant
from bench.quality.component_grids import ComponentFile, Grid, rotated, write_component_file
from bench.quality.losses import Bench, Loss, add_options, losses_of, prepare, tell
from gguf_files.weights import Floats
from terminal.table import markdown_table
from terminal.tool import run_tool

PUBLISHED = {"INT4": 6.68, "EOQ5, then INT4": 6.56}
"""Perplexities that are claimed for Qwen3.5-9B on WikiText-2, where F16 has 6.37."""


def int4() -> Grid:
    """The grid of torchao. Raises BenchError where there is no torchao."""
    try:
        from torchao.quantization.quant_primitives import (
            MappingType,
            choose_qparams_affine,
            dequantize_affine,
            quantize_affine,
        )
    except ImportError:
        raise BenchError("torchao is not installed: pip install torchao") from None

    def rounded(blocks: Floats) -> Floats:
        # as the kernels have it: weights, steps and zero points in bfloat16
        weights = torch.from_numpy(np.ascontiguousarray(blocks)).bfloat16()
        group, steps = (1, blocks.shape[1]), (torch.int32, 0, 15)
        scale, zero = choose_qparams_affine(weights, MappingType.ASYMMETRIC, group, *steps, 1e-6, None, torch.int32)
        codes = quantize_affine(weights, group, scale, zero, *steps)
        made = dequantize_affine(codes, group, scale, zero, *steps, output_dtype=torch.float32)
        floats: Floats = made.numpy()
        return floats

    return rounded


def measure(bench: Bench, grid: Grid) -> dict[str, dict[str, Loss]]:
    """By file, then by text. Raises EoqError."""
    workshop = bench.workshop
    packed, *_ = workshop.make(Variant("EOQ5", "plain"))
    target = workshop.folder / "int4.gguf"
    recipes: dict[str, tuple[Grid, Path | None]] = {
        "INT4": (grid, None),
        "EOQ5, then INT4": (grid, packed),
        "INT4 in the rotated basis": (rotated(grid), None),
        "EOQ5, then INT4 in the rotated basis": (rotated(grid), packed),
    }
    losses = {"EOQ5": losses_of(packed, bench.examiner, bench.texts)}
    for label, (made, weights) in recipes.items():
        print(f"==> {label}", file=sys.stderr, flush=True)
        write_component_file(ComponentFile(made), workshop.source, target, workshop.threads, weights_of=weights)
        losses[label] = losses_of(target, bench.examiner, bench.texts)
        target.unlink()
    packed.unlink()
    return losses


def table(losses: Mapping[str, Mapping[str, Loss]], text: str) -> str:
    """Files with their losses on a text, beside what is published."""
    head = ("weights", "perplexity", "over F16", "KLD", "published perplexity")
    rows = [("F16", f"{next(iter(losses.values()))[text].base:.3f}", "", "", "6.37")]
    for label, by_text in losses.items():
        loss, claim = by_text[text], PUBLISHED.get(label)
        kld = f"{loss.kld:.4f} ± {loss.kld_error:.4f}"
        rows.append((label, f"{loss.perplexity:.3f}", f"{loss.delta:+.3f}", kld, f"{claim:.2f}" if claim else ""))
    return markdown_table(head, rows)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.quality.torchao_int4", description=(__doc__ or "").splitlines()[0]
    )
    add_options(parser)
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    grid = int4()  # whether it is there at all
    bench = prepare(options, "torchao")
    losses = measure(bench, grid)
    tell(options, {text: table(losses, text) for text in bench.texts}, losses)


def main() -> int:
    return run_tool(run, parse_arguments())


if __name__ == "__main__":
    sys.exit(main())
