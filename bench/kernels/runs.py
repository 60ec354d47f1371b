"""Single measurements of kernels, by kernels.c."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.c_program import compile_program
from bench.errors import BenchError
from eoq_formats.types import ActivationType, WeightType
from llama_programs.run import output_of

FOLDER = Path(__file__).resolve().parent
PATCH = FOLDER.parents[1] / "ggml_patch"
KERNELS = ("mul_mat", "dequantize", "quantize")
FEWEST_ROWS = 16


@dataclass(frozen=True)
class Work:
    """A kernel and what it works on."""

    kernel: str
    """One of KERNELS."""
    type: WeightType | ActivationType
    """For `quantize` a type of activations."""
    rows: int
    """Rows of a slice: of what one call works on."""
    k: int
    """Length of rows."""
    columns: int
    """Columns of activations that weights are multiplied with; 1 where there are none."""
    slices: int
    """Calls go around them; 1: the data is in the cache."""

    @property
    def symbol(self) -> str:
        """The C function."""
        name = self.type.name.lower()
        return {"mul_mat": f"ggml_eoq_mul_mat_{name}"}.get(self.kernel, f"{self.kernel}_row_{name}")

    def arguments(self, milliseconds: int) -> list[str]:
        numbers = (self.rows, self.k, self.columns, self.slices, milliseconds)
        return [self.kernel, self.type.name.lower(), *map(str, numbers)]


@dataclass(frozen=True)
class Measurement:
    """What one run of the program says; seconds are those of a call."""

    work: Work
    seconds: float
    bytes: int
    """Read by a call: weights, or for `quantize` floats."""
    read_seconds: float
    """For a plain sum of the same bytes."""
    portable_seconds: float
    """Time of the portable kernel; 0 where the kernel is the portable one."""
    gigahertz: float
    """Clock of the core; 0 if unknown."""

    @property
    def gigabytes_per_second(self) -> float:
        return self.bytes / self.seconds / 1e9

    @property
    def multiply_adds(self) -> float:
        """A nanosecond."""
        return self.weights_per_nanosecond * self.work.columns

    @property
    def weights_per_nanosecond(self) -> float:
        return self.work.rows * self.work.k / self.seconds / 1e9

    @property
    def weights_per_cycle(self) -> float | None:
        return self.weights_per_nanosecond / self.gigahertz if self.gigahertz else None

    @property
    def of_read_speed(self) -> float:
        return self.read_seconds / self.seconds

    @property
    def over_portable(self) -> float | None:
        return self.portable_seconds / self.seconds if self.portable_seconds else None


def works(
    kernels: Sequence[str],
    types: Sequence[WeightType],
    columns: Sequence[int],
    k: int,
    rows: int | None,
    cached_bytes: int,
    uncached_bytes: int,
) -> list[Work]:
    """All combinations, each in the cache and out of it.

    Slices have `rows` rows, by default as many as fit `cached_bytes`; outside the cache, slices fill `uncached_bytes`.
    Raises BenchError for rows that are not whole blocks.
    """
    listed = []
    for kernel in kernels:
        measured: Sequence[WeightType | ActivationType] = types
        if kernel == "quantize":
            measured = list(dict.fromkeys(t.activation for t in types))
        for t in measured:
            if k % t.width:
                raise BenchError(f"{t.name} needs rows of a multiple of {t.width}, not {k}")
            row_bytes = t.row_bytes(k) if isinstance(t, WeightType) else 4 * k
            chosen = rows or max(FEWEST_ROWS, cached_bytes // row_bytes // FEWEST_ROWS * FEWEST_ROWS)
            around = -(-uncached_bytes // (chosen * row_bytes))
            for count in columns if kernel == "mul_mat" else (1,):
                listed += [Work(kernel, t, chosen, k, count, slices) for slices in (1, max(2, around))]
    return listed


@dataclass(frozen=True)
class KernelProgram:
    """kernels.c with the kernels of the patch, compiled."""

    path: Path

    @classmethod
    def compiled(cls, program: Path, flags: Sequence[str]) -> "KernelProgram":
        """Compile it with the compiler's `flags`, which say for what CPU. Raises ProgramFailed."""
        sources = sorted([*(PATCH / "base").glob("*.c"), *(PATCH / "cpu").glob("*.c")])
        includes = [f"-I{path}" for path in (PATCH, PATCH / "base", PATCH / "cpu")]
        ours = ["-DEOQ_STANDALONE", "-DNDEBUG", *includes]
        return cls(compile_program(program, [*sources, FOLDER / "kernels.c"], [*flags, *ours]))

    def measure(self, work: Work, milliseconds: int) -> Measurement:
        """Raises ProgramFailed, also if the kernel's results are wrong."""
        said = json.loads(output_of([str(self.path), *work.arguments(milliseconds)]))
        names = ("seconds", "bytes", "read_seconds", "portable_seconds", "gigahertz")
        return Measurement(work, **{name: said[name] for name in names})

    def instructions_per_weight(self, work: Work) -> float:
        """Executed in one call with a few rows. Raises ProgramFailed, also where the system forbids counting."""
        few = replace(work, rows=FEWEST_ROWS, slices=1)
        counted: int = json.loads(output_of([str(self.path), *few.arguments(0)]))["instructions"]
        return counted / (few.rows * few.k)
