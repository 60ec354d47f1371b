"""What a user asks a planner for."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from converter.errors import BudgetError, OptionError
from converter.options import RoundingOptions
from converter.plan.memory import compute_bytes, header_bytes, kv_bytes_per_token
from converter.plan.planners.softmax_entropy import EPSILON
from converter.plan.precision_levels import LevelTable
from gguf_files.source import Source

_MOST_BITS = 64
"""Those of the widest type."""


@dataclass(frozen=True)
class EwqRequest:
    """Types by the entropy of the weights."""

    variant: str = "4bit/8bit"
    x: float = 1.0
    """Standard deviations from the mean down to the threshold."""
    epsilon: float = EPSILON
    levels: LevelTable = field(default_factory=LevelTable)


@dataclass(frozen=True)
class FastEwqRequest:
    """Types by that entropy as it is guessed from the shape of the model alone."""

    variant: str = "8bit"
    four_bit: int = 1
    """Blocks that get 4 bits in the variant `4bit/8bit`, the last of those that are picked."""
    levels: LevelTable = field(default_factory=LevelTable)
    dataset: Path | None = None
    """To learn from; None for the one that comes with EOQ."""


@dataclass(frozen=True)
class PresetRequest:
    """Types by kind of layer and depth."""

    name: str = "uniform"
    base: str = "eoq4"


@dataclass(frozen=True)
class Budget:
    """How much a model may take: one of the three. Raises OptionError."""

    bits_per_weight: float | None = None
    """Over all tensors."""
    file_bytes: int | None = None
    memory_bytes: int | None = None
    """For weights, the cache of `context` tokens, and buffers."""
    context: int = 4096
    text_bytes: int = 0
    """Of the user's texts in the metadata of the file, which may be long."""

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.bits_per_weight, self.file_bytes, self.memory_bytes)) != 1:
            raise OptionError(
                "a budget is one of bits a weight (--target-bpw), the size of the file (--target-size) and memory "
                "(--fit-memory); give one of them"
            )
        if self.bits_per_weight is not None and not 0 < self.bits_per_weight <= _MOST_BITS:
            raise OptionError(
                f"the bits a weight must be above 0 and at most {_MOST_BITS}, not {self.bits_per_weight:g}"
            )

    @property
    def recorded(self) -> tuple[str, ...]:
        """As text for the metadata of a file that was planned for it."""
        if self.bits_per_weight is not None:
            return (f"target-bpw={self.bits_per_weight:g}",)
        if self.file_bytes is not None:
            return (f"target-size={self.file_bytes}",)
        return f"fit-memory={self.memory_bytes}", f"context={self.context}"

    def refusal(self, source: Source, error: BudgetError) -> OptionError:
        """What to say where the smallest types take more: the least and the most that can be asked for."""
        return OptionError(
            f"the budget is too small: in the smallest types the model needs {self._option(source, error.least)}, and "
            f"{self._option(source, error.most)} has room for it as it is; give one of these, or what lies between"
        )

    def _option(self, source: Source, nbytes: int) -> str:
        """The option that leaves so many bytes for tensors, or hardly more."""
        if self.bits_per_weight is not None:
            weights = max(1, sum(t.weights for t in source.tensors))
            bits = math.ceil(8000 * nbytes / weights) / 1000
            # the product of floats may fall short of it
            return f"--target-bpw {bits + 0.001 * (int(bits * weights / 8) < nbytes):.3f}"
        if self.file_bytes is not None:
            return f"--target-size {_rounded_up(nbytes + header_bytes(source) + self.text_bytes)}"
        memory = nbytes + self.context * (kv_bytes_per_token(source) or 0) + compute_bytes(source)
        return f"--fit-memory {_rounded_up(memory)} --context {self.context}"

    def for_tensors(self, source: Source) -> int:
        """Bytes for all tensors, padding aside. Raises OptionError."""
        if self.bits_per_weight is not None:
            return int(self.bits_per_weight * sum(t.weights for t in source.tensors) / 8)
        if self.file_bytes is not None:
            return self.file_bytes - header_bytes(source) - self.text_bytes
        assert self.memory_bytes is not None
        cache = kv_bytes_per_token(source)
        if cache is None:
            raise OptionError(
                f"the cache of {source.architecture} models is not known here, so memory cannot be counted; "
                "give the size of the file in place of the memory"
            )
        return self.memory_bytes - self.context * cache - compute_bytes(source)


@dataclass(frozen=True)
class BudgetRequest:
    """The least predicted loss within a budget."""

    budget: Budget
    statistics: Path | None = None
    """File of statistics, or an imatrix of llama.cpp, to predict errors with."""
    allow_partial_statistics: bool = False
    """Accept an imatrix that has nothing on more than a tenth of the weights in blocks."""
    rounding: RoundingOptions = field(default_factory=RoundingOptions)
    """How the conversion will round: what errors are predicted for."""
    codes: str = "trellis"
    """Which of the LADDERS to choose types from."""

    @property
    def recorded(self) -> tuple[str, ...]:
        """What decides the plan beside the model and its statistics, as text for the metadata of the output."""
        return *self.budget.recorded, f"codes={self.codes}"


def _rounded_up(nbytes: int) -> str:
    """A size as the options take it: at least so many bytes, in four digits or more."""
    unit, name = (10**6, "MB") if nbytes >= 10**9 else (10**3, "kB")
    return f"{-(-nbytes // unit)}{name}"


Request = EwqRequest | FastEwqRequest | PresetRequest | BudgetRequest
