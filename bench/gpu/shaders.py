"""What a driver's compiler makes of the shaders of products with one column: instructions a weight, beside llama.cpp's.

RADV_FORCE_FAMILY=navi21 VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/radeon_icd.json python -m bench.gpu.shaders

Nothing is run: Mesa's driver for AMD compiles for a GPU that is not there. A shader is compiled for one row and for two
rows a workgroup; the difference is what a row costs, decoding and summing up, for the weights that a thread takes of it
in a step. What rows share (activations, addresses, start) is not in it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from eoq_formats.types import WEIGHT_TYPES
from llama_programs.build import BuildKind, layout
from llama_programs.fetch import cache_folder
from llama_programs.run import output_of
from terminal.table import markdown_table
from terminal.tool import run_tool

SUFFIX = "_subgroup_no_shmem"
"""Of shaders for a workgroup of one subgroup."""
BINDINGS = 5
SUBGROUP = 32
STATISTICS = ("Instructions", "VALU", "SALU", "VMEM")
"""Of Mesa's driver for AMD."""


@dataclass(frozen=True)
class Shader:
    """A shader of products, and how many weights of a row a thread takes in a step."""

    name: str
    file: str
    weights: int
    constants: tuple[int, ...] = ()
    """Specialization constants behind the size of the workgroup, rows and columns."""


def shaders() -> list[Shader]:
    """EOQ's types, each once, and llama.cpp's of similar size."""
    ours = [
        Shader(t.name, "mul_mat_vec_eoq", 4 * (4 if t.bits < 4 else 2), (t.id,))
        for t in WEIGHT_TYPES
        if t.width == (256 if t.is_trellis else 128)
    ]
    peers = [Shader(f"Q{bits}_K", f"mul_mat_vec_q{bits}_k_f32_f32", 16) for bits in (2, 3, 4, 5, 6)]
    return [*ours, *peers, Shader("IQ4_XS", "mul_mat_vec_iq4_xs_f32_f32", 32)]


def parse(said: str) -> dict[str, float]:
    """The program's lines by name."""
    lines = [line.split("\t") for line in said.splitlines() if line.count("\t") == 1]
    return {name: float(value) for name, value in lines if name != "device"}


def of_a_row(program: Path, folder: Path, shader: Shader) -> dict[str, float]:
    """STATISTICS of one more row. Raises EoqError."""

    def counted(rows: int) -> dict[str, float]:
        constants = [SUBGROUP, rows, 1, *shader.constants]
        words = [str(program), str(folder / f"{shader.file}{SUFFIX}.spv"), str(BINDINGS), *map(str, constants)]
        found = parse(output_of(words))
        if missing := [name for name in STATISTICS if name not in found]:
            raise BenchError(f"the driver tells no {', '.join(missing)}: this reads those of Mesa's driver for AMD")
        return found

    one, two = counted(1), counted(2)
    return {name: two[name] - one[name] for name in STATISTICS}


def table(found: Sequence[tuple[Shader, dict[str, float]]]) -> str:
    """A row for each shader, in instructions a weight."""
    rows = [(shader.name, *(f"{costs[name] / shader.weights:.1f}" for name in STATISTICS)) for shader, costs in found]
    return markdown_table(("type", *STATISTICS), rows)


def run(options: argparse.Namespace) -> None:
    folder = options.shaders or layout(cache_folder(), BuildKind(vulkan=True)).build
    folder = next(folder.rglob("mul_mat_vec_eoq.spv"), folder / "none").parent
    if not folder.is_dir():
        raise BenchError("there are no compiled shaders; run tools/setup.sh --vulkan, or name their folder (--shaders)")
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch) / "shader_statistics"
        source = Path(__file__).parent / "shader_statistics.cpp"
        output_of(["c++", "-O1", str(source), "-lvulkan", "-o", str(program)])
        print(table([(shader, of_a_row(program, folder, shader)) for shader in shaders()]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.shaders", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shaders", type=Path, metavar="DIR", help="compiled shaders (default: those of the build)")
    return run_tool(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
