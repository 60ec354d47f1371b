"""Size, bits a weight and perplexity of several GGUF files of one model, as ratios to the first.

python -m bench.perplexity F16.gguf EOQ4.gguf IQ4_XS.gguf
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from gguf import GGUFReader

from bench.table import markdown_table
from eoq_formats.gguf_registration import register
from ggml_patch.build import built_programs
from ggml_patch.errors import PatchToolError
from ggml_patch.fetch import cache_folder
from tests.material.models import evaluation_text


class MeasurementError(Exception):
    """A program did not give the number that was asked of it."""


@dataclass(frozen=True)
class Measurement:
    """What is known of one file."""

    file: Path
    bytes: int
    bits_per_weight: float
    perplexity: float
    uncertainty: float
    """Standard error of the perplexity."""


def bits_per_weight(file: Path) -> float:
    """Bits of all tensors over the number of their values."""
    tensors = GGUFReader(file).tensors
    return 8 * sum(int(t.n_bytes) for t in tensors) / sum(int(t.n_elements) for t in tensors)


def measure(file: Path, programs: Path, text: Path, options: list[str]) -> Measurement:
    """Run llama-perplexity on `file`. Raises MeasurementError."""
    command = [str(programs / "llama-perplexity"), "-m", str(file), "-f", str(text), *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = done.stdout.decode(errors="replace")
    found = re.search(r"Final estimate: PPL = ([\d.]+) \+/- ([\d.]+)", output)
    if done.returncode or found is None:
        raise MeasurementError(f"llama-perplexity gave no estimate for {file}:\n{output[-3000:]}")
    return Measurement(file, file.stat().st_size, bits_per_weight(file), float(found[1]), float(found[2]))


def table(measurements: list[Measurement]) -> str:
    """Markdown, the first row being the reference."""
    first = measurements[0]
    rows = [
        (
            m.file.name,
            f"{m.bytes / 1e6:.1f}",
            f"{m.bits_per_weight:.3f}",
            f"{m.perplexity:.3f} ± {m.uncertainty:.3f}",
            f"{m.perplexity / first.perplexity:.4f}",
        )
        for m in measurements
    ]
    return markdown_table(("model", "MB", "bits a weight", "perplexity", "over the first"), rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.perplexity", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL.gguf")
    parser.add_argument("--text", type=Path, help="text file (default: the last third of the Lee news corpus)")
    parser.add_argument("--chunks", type=int, default=-1, help="windows to measure (default: the whole text)")
    parser.add_argument("--context", type=int, default=512, help="tokens a window (default: 512)")
    parser.add_argument("--programs", type=Path, help="folder of llama-perplexity (default: what tools/setup.sh built)")
    options = parser.parse_args()
    sizes = ["--chunks", str(options.chunks), "-c", str(options.context)]
    for model in options.models:
        if not model.is_file():
            parser.error(f"{model} does not exist")
    register()
    try:
        programs = options.programs or built_programs(cache_folder())
        text = options.text or evaluation_text()
        print(table([measure(model, programs, text, sizes) for model in options.models]))
    except (MeasurementError, PatchToolError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
