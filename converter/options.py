"""What a user can choose about a conversion."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from converter.calibration_options import CalibrationOptions
from converter.cores import available_cores
from converter.errors import OptionError
from converter.tensor_types import TypeChoice, eoq_choice, parse_eoq_type, parse_type
from eoq_formats.types import weight_type

if TYPE_CHECKING:
    from converter.plan.proposals import Proposals

ROUNDINGS = ("feedback", "nearest")


@dataclass(frozen=True)
class TensorTypeOverride:
    """Tensors whose GGUF name the pattern is found in get this type."""

    pattern: str
    type: TypeChoice

    @property
    def text(self) -> str:
        return f"{self.pattern}={self.type.name}"

    def matches(self, tensor_name: str) -> bool:
        return re.search(self.pattern, tensor_name) is not None


def parse_override(text: str) -> TensorTypeOverride:
    """Read `REGEX=TYPE`; the type follows the last equals sign. Raises OptionError or UnknownTypeError."""
    pattern, equals, name = text.rpartition("=")
    if not equals or not pattern:
        raise OptionError(f"tensor type {text!r} is not of the form REGEX=TYPE, such as ffn_down=eoq5")
    try:
        re.compile(pattern)
    except re.error as e:
        raise OptionError(f"tensor type {text!r}: {pattern!r} is not a regular expression ({e})") from None
    return TensorTypeOverride(pattern, parse_type(name))


@dataclass(frozen=True)
class ConversionOptions:
    """Options of `convert`. Type names are read when the object is made: UnknownTypeError or OptionError comes then."""

    type: str = "eoq4"
    """EOQ type of the weights. Without `_64`, blocks are 128 wide where rows divide by 128, else 64 wide."""
    output_type: str | None = None
    """Type of output.weight (of token_embd.weight where that serves as output); by default EOQ6."""
    token_embd_type: str | None = None
    """Type of the token embeddings; by default that of the other weights."""
    tensor_types: tuple[str, ...] = ()
    """`REGEX=TYPE` overrides, found in GGUF tensor names; the first that matches wins, over all other options."""
    proposals: "Proposals | None" = None
    """A plan's types for weights that no override names; `converter.plan.read_plan_file` reads them."""
    rounding: str = "feedback"
    """`feedback`: error feedback by the statistics of the inputs; `nearest`: each weight by itself."""
    awq: bool = True
    """Scale channels by the statistics of the inputs before rounding, and fold the scales into the tensors before."""
    statistics: Path | None = None
    """File of statistics, or an imatrix of llama.cpp. One that does not exist yet is made by calibration, and kept."""
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    """How statistics are taken where there are none; its thread count is that of the conversion."""
    damping: float = 0.02
    """Added to the moments' diagonal for error feedback, relative to its mean."""
    shrinkage: float = 0.5
    """Share of the correlations between inputs that is taken for an accident of the calibration text."""
    threads: int = field(default_factory=available_cores)
    allow_requantize: bool = False
    """Accept a source whose weights are quantised already."""
    llama_dir: Path | None = None
    """A llama.cpp tree with convert_hf_to_gguf.py; by default the one that tools/setup.sh made."""
    work_dir: Path | None = None
    """Where the intermediate GGUF of a Hugging Face folder goes; by default the folder of the output."""

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise OptionError(f"the number of threads must be at least 1, not {self.threads}")
        if self.rounding not in ROUNDINGS:
            raise OptionError(f"there is no rounding {self.rounding!r}; choose {' or '.join(ROUNDINGS)}")
        if not 0 < self.damping <= 1:
            raise OptionError(f"the damping must be above 0 and at most 1, not {self.damping}")
        if not 0 <= self.shrinkage <= 1:
            raise OptionError(f"the shrinkage must be at least 0 and at most 1, not {self.shrinkage}")
        if self.statistics and not self.is_calibrated:
            raise OptionError(
                f"the statistics {self.statistics} would have no use without error feedback and AWQ; leave them out"
            )
        _ = self.weights, self.output, self.token_embd, self.overrides

    @property
    def is_calibrated(self) -> bool:
        """Whether anything depends on statistics of the inputs."""
        return self.rounding != "nearest" or self.awq

    @property
    def weights(self) -> TypeChoice:
        """The type of all that no other option names."""
        return eoq_choice(parse_eoq_type(self.type))

    @property
    def output(self) -> TypeChoice | None:
        return parse_type(self.output_type) if self.output_type else None

    @property
    def default_output(self) -> TypeChoice:
        """EOQ6, as wide as the other weights."""
        return eoq_choice(weight_type("eoq6" if self.weights.any_width else "eoq6_64"))

    @property
    def token_embd(self) -> TypeChoice | None:
        return parse_type(self.token_embd_type) if self.token_embd_type else None

    @property
    def overrides(self) -> tuple[TensorTypeOverride, ...]:
        return tuple(parse_override(text) for text in self.tensor_types)

    def recorded(self) -> list[str]:
        """What decides the bytes of the output, as text for the file's metadata: no paths, no thread count."""
        chosen = [f"type={self.weights.name}"]
        if self.is_calibrated:
            chosen += [f"rounding={self.rounding}", f"awq={'on' if self.awq else 'off'}"]
            chosen.append(f"shrinkage={self.shrinkage:g}")
        if self.rounding == "feedback":
            chosen.append(f"damping={self.damping:g}")
        if self.output:
            chosen.append(f"output-type={self.output.name}")
        if self.token_embd:
            chosen.append(f"token-embd-type={self.token_embd.name}")
        if self.proposals is not None:
            chosen.append(f"plan={self.proposals.planner}, {self.proposals.digest}")
        chosen += [f"tensor-type={override.text}" for override in self.overrides]
        if self.allow_requantize:
            chosen.append("allow-requantize")
        return chosen
