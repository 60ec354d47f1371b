"""How fast the machine reads memory, by read_bandwidth.c: the ceiling of token generation."""

from dataclasses import dataclass
from pathlib import Path

from bench.c_program import compile_program, cpu_flags
from llama_programs.run import output_of


@dataclass(frozen=True)
class ReadBandwidth:
    """The compiled program."""

    program: Path
    mebibytes: int = 1024
    """Size of the buffer: many times the caches."""
    passes: int = 12

    @classmethod
    def compiled(cls, folder: Path) -> "ReadBandwidth":
        """Compile it into a folder. Raises ProgramFailed."""
        flags = ["-O3", *cpu_flags("native")]
        return cls(compile_program(folder / "read_bandwidth", [Path(__file__).with_suffix(".c")], flags))

    def measure(self, threads: int) -> float:
        """GB/s (10^9 bytes) of the fastest pass: what slows others down is not the memory. Raises ProgramFailed."""
        output = output_of([str(self.program), str(self.mebibytes), str(threads), str(self.passes)])
        return max(map(float, output.split()))
