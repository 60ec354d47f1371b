"""What a user can choose about a calibration."""

from dataclasses import dataclass, field
from pathlib import Path

from converter.cores import available_cores
from converter.errors import OptionError

DTYPES = ("float32", "bfloat16")
_LEAST_SEQUENCE = 8
_DEFAULT_MEMORY = 4 << 30


@dataclass(frozen=True)
class CalibrationOptions:
    """Raises OptionError when made of values that mean nothing."""

    text: Path | None = None
    """UTF-8 text to run the model on; None for the bundled one."""
    tokens: int = 32768
    """Most tokens to run. Where the text has more, sequences are taken from all over it."""
    sequence_length: int = 512
    """Tokens in a sequence, marks such as BOS included."""
    seed: int = 0
    """Chooses the sequences."""
    device: str = "cpu"
    """A device of PyTorch: cpu, cuda, cuda:1, mps."""
    dtype: str = "float32"
    """`float32` or `bfloat16`: what the model's matrices are held and multiplied in. All else is float32 either way.
    bfloat16 takes half the memory, and less time where the processor knows it; moments get about 1 % less exact."""
    threads: int = field(default_factory=available_cores)
    all_experts: bool = False
    """Show every token to every expert, for the statistics alone: what the router chooses runs on as always."""
    memory_limit: int = _DEFAULT_MEMORY
    """Bytes of moments that are held at once. Where a layer needs more, its tokens are run several times."""

    def __post_init__(self) -> None:
        if self.sequence_length < _LEAST_SEQUENCE:
            raise OptionError(
                f"calibration sequences must have at least {_LEAST_SEQUENCE} tokens, not {self.sequence_length}"
            )
        if self.tokens < self.sequence_length:
            raise OptionError(
                f"{self.tokens} calibration tokens are less than one sequence of {self.sequence_length}; ask for more"
            )
        if self.dtype not in DTYPES:
            raise OptionError(f"calibration cannot run in {self.dtype!r}; choose {' or '.join(DTYPES)}")
        if self.threads < 1:
            raise OptionError(f"the number of threads must be at least 1, not {self.threads}")
        if self.memory_limit < 1:
            raise OptionError(f"the memory limit of calibration must be positive, not {self.memory_limit} bytes")
        if self.seed < 0:
            raise OptionError(f"the calibration seed must not be negative, as {self.seed} is")
