"""How fast the machine reads memory, by read_bandwidth.c: the ceiling of token generation."""

from dataclasses import dataclass
from pathlib import Path

from bench.c_program import FOLDER, compile_program, output_of, target_flags


@dataclass(frozen=True)
class ReadBandwidth:
    """The compiled program."""

    program: Path
    mebibytes: int = 1024
    """Of the buffer: many times the caches."""
    passes: int = 12

    @classmethod
    def compiled(cls, folder: Path) -> "ReadBandwidth":
        """Compile it into a folder. Raises ProgramFailed."""
        flags = ["-O3", *target_flags("native")]
        return cls(compile_program(folder / "read_bandwidth", [FOLDER / "read_bandwidth.c"], flags))

    def measure(self, threads: int) -> float:
        """GB/s (10^9 bytes) of the fastest pass: what slows others down is not the memory. Raises ProgramFailed."""
        output = output_of([str(self.program), str(self.mebibytes), str(threads), str(self.passes)])
        return max(map(float, output.split()))
