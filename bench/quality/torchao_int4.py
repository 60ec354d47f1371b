"""INT4 of torchao, made of the weights themselves and of what EOQ5 has made of them.

python -m bench.quality.torchao_int4 --model 0.5b --texts encyclopaedia news

The grid is that of Int4WeightOnlyConfig(group_size=128), by torchao's own functions: 16 steps between the least and the
greatest weight of each group. Its kernels need a GPU; here the weights that they would multiply by are stored in F16
and measured by the patched llama-perplexity. Embeddings and output stay F16. Needs torchao (pip install torchao).
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from bench.errors import BenchError
from bench.quality.ablation_calibration import Calibration
from bench.quality.ablation_variants import Variant, Workshop
from bench.quality.component_grids import ComponentFile, Grid, rotated, write_component_file
from bench.quality.losses import Loss, losses_of
from bench.quality.texts import ALL_KINDS, TEXTS, Examiner, chosen_texts
from converter.options import RoundingOptions
from gguf_files.weights import Floats
from llama_programs.build import built_programs
from llama_programs.fetch import cache_folder
from material.models import YARDSTICKS, yardstick
from output_files.target import check_outputs
from output_files.whole import write_whole
from terminal.cores import available_cores
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


def measure(workshop: Workshop, examiner: Examiner, texts: Mapping[str, Path]) -> dict[str, dict[str, Loss]]:
    """By file, then by text. Raises EoqError."""
    grid = int4()
    packed, *_ = workshop.make(Variant("EOQ5", "plain"))
    target = workshop.folder / "int4.gguf"
    recipes: dict[str, tuple[Grid, Path | None]] = {
        "INT4": (grid, None),
        "EOQ5, then INT4": (grid, packed),
        "INT4 in the rotated basis": (rotated(grid), None),
        "EOQ5, then INT4 in the rotated basis": (rotated(grid), packed),
    }
    losses = {"EOQ5": losses_of(packed, examiner, texts)}
    for label, (made, weights) in recipes.items():
        print(f"==> {label}", file=sys.stderr, flush=True)
        write_component_file(ComponentFile(made), workshop.source, target, workshop.threads, weights_of=weights)
        losses[label] = losses_of(target, examiner, texts)
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
    add = parser.add_argument
    add("--model", choices=YARDSTICKS, default="0.5b", help="yardstick (default: %(default)s)")
    texts = [*TEXTS, ALL_KINDS]
    add("--texts", nargs="+", choices=texts, default=["encyclopaedia"], help="to measure on (default: encyclopaedia)")
    add("--chunks", type=int, default=16, help="windows of 512 tokens of each text (default: 16; 0: the whole text)")
    add("--threads", type=int, default=available_cores(), help="default: all cores")
    add("--work-dir", type=Path, metavar="DIR", help="for models (default: torchao/MODEL in the cache)")
    add("--markdown", type=Path, metavar="OUT.md", help="file for the tables, which are printed anyway")
    add("--json", type=Path, metavar="OUT.json", help="file for the figures")
    return parser.parse_args()


def run(options: argparse.Namespace) -> None:
    check_outputs([options.json, options.markdown], [])
    int4()  # whether it is there at all
    folder = options.work_dir or cache_folder() / "torchao" / options.model
    folder.mkdir(parents=True, exist_ok=True)
    source, programs, threads = yardstick(options.model), built_programs(cache_folder()), options.threads
    calibration = Calibration(source, folder, threads)
    workshop = Workshop(source, calibration, folder, programs, threads, None, RoundingOptions().damping)
    examiner = Examiner(source, folder, programs, options.chunks or None, threads)
    texts = {name: path_of() for name, path_of in chosen_texts(options.texts).items()}
    losses = measure(workshop, examiner, texts)
    printed = "\n\n".join(f"### {options.model}, {name}\n\n{table(losses, name)}" for name in texts)
    print(printed)
    if options.markdown:
        write_whole(options.markdown, printed + "\n")
    if options.json:
        figures = {label: {name: vars(loss) for name, loss in each.items()} for label, each in losses.items()}
        write_whole(options.json, json.dumps({"model": source.name, "losses": figures}, indent=2) + "\n")


def main() -> int:
    return run_tool(run, parse_arguments())


if __name__ == "__main__":
    sys.exit(main())
