"""The C programs of this folder: compiled with the system's compiler when a benchmark starts, and run."""

import os
import platform
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.timed_run import ProgramFailed

FOLDER = Path(__file__).resolve().parent


def target_flags(target: str) -> list[str]:
    """The compiler's flags for a CPU or level of an architecture, and what it has beyond it: `x86-64-v3,avxvnni`."""
    on_x86 = platform.machine().lower() in ("x86_64", "amd64", "i686")
    level, *features = target.split(",")
    return [f"-m{'arch' if on_x86 else 'cpu'}={level}", *(f"-m{feature}" for feature in features)]


def compile_program(program: Path, sources: Sequence[Path], flags: Sequence[str]) -> Path:
    """Compile C11. Returns `program`. Raises ProgramFailed with the compiler's words, OSError without one."""
    compiler = os.environ.get("CC") or "cc"
    command = [compiler, "-std=c11", *flags, *map(str, sources), "-lm", "-pthread", "-o", str(program)]
    output_of(command)
    return program


def output_of(command: Sequence[str]) -> str:
    """What a program prints on standard output. Raises ProgramFailed with the end of its standard error."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode:
        status = done.returncode
        how = f"ended with status {status}" if status > 0 else f"was ended by {signal.Signals(-status).name}"
        raise ProgramFailed(f"{' '.join(command)}\n{how}:\n{done.stderr[-3000:]}")
    return done.stdout
