"""C programs of benchmarks: compiled with the system's compiler when one starts."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path

from llama_programs.run import output_of

INCLUDES = Path(__file__).resolve().parent
"""The folder of the header that they share."""


def cpu_flags(cpu: str) -> list[str]:
    """The compiler's flags for a CPU or level of an architecture, and what it has beyond it: `x86-64-v3,avxvnni`."""
    on_x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    level, *features = cpu.split(",")
    return [f"-m{'arch' if on_x86 else 'cpu'}={level}", *(f"-m{feature}" for feature in features)]


def compile_program(program: Path, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """Compile C11. Returns `program`. Raises ProgramFailed with the compiler's words."""
    compiler = os.environ.get("CC") or "cc"
    includes = ["-I", str(INCLUDES)]
    output_of([compiler, "-std=c11", *includes, *flags, *map(str, sources), "-lm", "-pthread", "-o", str(program)])
    return program
