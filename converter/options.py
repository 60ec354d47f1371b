"""What a user can choose: a small set of options for each stage, and all of them together for a conversion.

Each is read when it is made: what means nothing raises OptionError or UnknownTypeError there, before any work.
"""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from converter.errors import OptionError
from converter.type_choice import TypeChoice, eoq_choice, parse_eoq_type, parse_type
from eoq_formats.types import weight_type
from gguf_files.output.splits import SplitLimit
from gguf_files.tensor_types import bits_per_weight
from input_files.expressions import check_expression
from terminal.cores import available_cores

_AWQ = {None: "auto", True: "on", False: "off"}
ROUNDINGS = ("feedback", "nearest")
PROJECTOR_TYPES = ("f16", "bf16", "f32", "q8_0", "none")
EFFORT_LEVELS = (1, 2, 3)
_MOST_THREADS = 4096
_LEAST_SEQUENCE = 8
_MOST_OF_LLAMA_CPP = 2**31 - 1
"""Numbers of llama.cpp's command lines; of larger ones its programs say nothing but how to get help."""
_DEFAULT_MEMORY = 4 << 30
_LONGEST_NAME = 200


HF_OPTIONS = {
    "model-name": "NAME",
    "metadata": "FILE",
    "no-mtp": None,
    "sentence-transformers-dense-modules": None,
    "mistral-format": None,
    "disable-mistral-community-chat-template": None,
    "fuse-gate-up-exps": None,
    "fuse-qkv": None,
}
"""Options of llama.cpp's converter that may be passed on, with what they take."""
_OTHER_HF_OPTIONS = {
    **dict.fromkeys(("outfile", "outtype"), "the intermediate file and its type are EOQ's matter"),
    **dict.fromkeys(("split-max-tensors", "split-max-size"), "convert_eoq.py has the option itself"),
    "dry-run": "convert_eoq.py has the option itself",
    "mmproj": "convert_eoq.py has --mmproj itself",
    "remote": "give the id of the model in place of the folder",
    "no-nextn": "it is the same as no-mtp",
    "fp8-as-q8": "the weights would be quantised twice",
    **dict.fromkeys(("mtp", "dspark", "target-model-dir", "vocab-only"), "it makes another file than the model"),
}


@dataclass(frozen=True)
class HfOption:
    """An option that is passed on to llama.cpp's converter of Hugging Face folders."""

    name: str
    """Without its dashes."""
    value: str | None = None

    @property
    def words(self) -> list[str]:
        """For the converter's command line."""
        return [f"--{self.name}"] if self.value is None else [f"--{self.name}={self.value}"]

    @property
    def file(self) -> Path | None:
        """The file that the converter reads for it."""
        return Path(self.value).absolute() if self.name == "metadata" and self.value is not None else None

    @property
    def text(self) -> str:
        """Without paths."""
        return self.name if self.value is None or self.file is not None else f"{self.name}={self.value}"


def parse_hf_option(text: str) -> HfOption:
    """Read `OPT` or `OPT=VALUE`. Raises OptionError for what is no option that may be passed on."""
    name, equals, value = text.partition("=")
    name = name.removeprefix("--")
    if name not in HF_OPTIONS:
        known = ", ".join(name if value is None else f"{name}={value}" for name, value in HF_OPTIONS.items())
        why = f": {reason}" if (reason := _OTHER_HF_OPTIONS.get(name)) else ""
        raise OptionError(f"--hf-option {text[:60]} is not passed on to llama.cpp's converter{why}; choose of {known}")
    if HF_OPTIONS[name] is None and equals:
        raise OptionError(f"--hf-option {name} takes no value")
    if HF_OPTIONS[name] is not None and not value:
        raise OptionError(f"--hf-option {name} needs a value: {name}={HF_OPTIONS[name]}")
    option = HfOption(name, value if equals else None)
    if option.file is not None and not option.file.is_file():
        raise OptionError(f"--hf-option {text}: there is no file {value}")
    return option if option.file is None else HfOption(name, str(option.file))


@dataclass(frozen=True)
class SourceAccess:
    """How a model is opened."""

    allow_requantize: bool = False
    """Accept a source whose weights are quantised already."""
    llama_dir: Path | None = None
    """A llama.cpp tree with convert_hf_to_gguf.py; by default the one that tools/setup.sh made."""
    work_dir: Path | None = None
    """Where the intermediate GGUF of a Hugging Face folder goes; by default the folder of the output."""
    keeps_mxfp4: bool = False
    """Accept a Hugging Face folder with weights in MXFP4, as they are to stay so."""
    revision: str | None = None
    """Branch, tag or commit of a model that is named by its id on the Hugging Face Hub; by default its main branch."""
    tells_of_senses: bool = True
    """Say that parts for images and sound are left out of the model; False for who sees to them."""
    is_intermediate: bool = False
    """The model is an intermediate GGUF, which was made with `hf_options`."""
    hf_options: tuple[str, ...] = ()
    """`OPT` or `OPT=VALUE` of llama.cpp's converter of Hugging Face folders, as far as HF_OPTIONS has them."""
    origin: str | None = None
    """Page on the hub of what the model was made of, where its path does not tell."""

    def __post_init__(self) -> None:
        _ = self.converter_options

    @property
    def is_mistral_format(self) -> bool:
        """Whether the model is read from the files of Mistral's own format, not from those of transformers."""
        return any(option.name == "mistral-format" for option in self.converter_options)

    @cached_property
    def converter_options(self) -> tuple[HfOption, ...]:
        return tuple(map(parse_hf_option, self.hf_options))


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
    check_expression(pattern, OptionError, f"tensor type {text[:60]!r}")
    return TensorTypeOverride(pattern, parse_type(name))


@dataclass(frozen=True)
class TypeOptions:
    """Which type each tensor gets, as far as no plan says so."""

    type: str = "eoq4"
    """EOQ type of the weights. Without `_64`, blocks are 128 wide where rows divide by 128, else 64 wide."""
    output_type: str | None = None
    """Type of output.weight (of token_embd.weight where that serves as output); by default EOQ6."""
    token_embd_type: str | None = None
    """Type of the token embeddings; by default that of the other weights."""
    tensor_types: tuple[str, ...] = ()
    """`REGEX=TYPE` overrides, found in GGUF tensor names; the first that matches wins, over plans and other options."""

    def __post_init__(self) -> None:
        _ = self.weights, self.output, self.token_embd, self.overrides

    @cached_property
    def weights(self) -> TypeChoice:
        """The type of all that no other option names."""
        return eoq_choice(parse_eoq_type(self.type))

    @cached_property
    def output(self) -> TypeChoice | None:
        return None if self.output_type is None else parse_type(self.output_type)

    @cached_property
    def default_output(self) -> TypeChoice:
        """EOQ6, as wide as the other weights."""
        width = self.weights.eoq.width if self.weights.eoq else None
        return eoq_choice(weight_type("eoq6_64" if width == 64 else "eoq6"))

    @cached_property
    def token_embd(self) -> TypeChoice | None:
        return None if self.token_embd_type is None else parse_type(self.token_embd_type)

    @cached_property
    def overrides(self) -> tuple[TensorTypeOverride, ...]:
        return tuple(parse_override(text) for text in self.tensor_types)

    @property
    def least_bits_per_weight(self) -> float:
        """Bits a weight of the smallest type that any weight may get by these options."""
        choices = [self.weights, self.default_output, self.output, self.token_embd, *(o.type for o in self.overrides)]
        return min(bits_per_weight(choice.type) for choice in choices if choice is not None)

    @property
    def may_be_trellis(self) -> bool:
        """Whether any weight may get a trellis type by these options."""
        choices = [self.weights, self.output, self.token_embd, *(o.type for o in self.overrides)]
        return any(choice.eoq.is_trellis for choice in choices if choice is not None and choice.eoq is not None)

    def override_of(self, tensor_name: str) -> TensorTypeOverride | None:
        """The first override that a tensor's name matches."""
        return next((override for override in self.overrides if override.matches(tensor_name)), None)


OWN_TEXT = Path("self")


@dataclass(frozen=True)
class CalibrationText:
    """A text to run the model on: UTF-8, or in `.jsonl` conversations, which go through the model's chat template."""

    path: Path
    """Path("self") is what the model writes itself; a file of that name goes by its absolute path."""
    weight: float = 1.0
    """Of its tokens, beside those of the others."""

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise OptionError(f"the weight of the calibration text {self.path} must be above 0, not {self.weight:g}")


def split_weight(text: str) -> tuple[Path, float]:
    """Read `FILE` or `FILE:WEIGHT`; a file of the whole name comes first. Without a weight it is 1."""
    name, colon, weight = text.rpartition(":")
    if colon and name and not Path(text).exists():
        with suppress(ValueError):
            return Path(name), float(weight)
    return Path(text), 1.0


@dataclass(frozen=True)
class CalibrationOptions:
    """How statistics are taken."""

    texts: tuple[CalibrationText, ...] = ()
    """Texts to run the model on, of each a share of the tokens by its weight, where they are long enough; by default
    those that come with EOQ."""
    tokens: int = 131_072
    """Most tokens to run, over all texts. Where a text has more, sequences are taken from all over it."""
    sequence_length: int = 512
    """Tokens in a sequence, marks such as BOS included."""
    gpu_layers: int = 0
    """Layers of the model that llama.cpp runs on the GPU, where it was built for one."""
    all_experts: bool = False
    """Have the model use all its experts for every token."""
    memory_limit: int = _DEFAULT_MEMORY
    """Bytes of moments that are held at once. Where a model needs more, the texts are run several times."""
    resume: bool = False
    """Go on from the checkpoint of an interrupted calibration to the same file, where there is one."""
    llama_bin: Path | None = None
    """Folder of llama.cpp programs; by default those that tools/setup.sh built."""

    def __post_init__(self) -> None:
        if self.sequence_length < _LEAST_SEQUENCE:
            raise OptionError(
                f"calibration sequences must have at least {_LEAST_SEQUENCE} tokens, not {self.sequence_length}"
            )
        if self.tokens < self.sequence_length:
            raise OptionError(
                f"{self.tokens} calibration tokens are less than one sequence of {self.sequence_length}; ask for more"
            )
        if self.memory_limit < 1:
            raise OptionError(f"the memory limit of calibration must be positive, not {self.memory_limit} bytes")
        if self.gpu_layers < 0:
            raise OptionError(f"the number of layers on the GPU must not be negative, as {self.gpu_layers} is")
        for what, number in (("calibration tokens", self.tokens), ("layers on the GPU", self.gpu_layers)):
            if number > _MOST_OF_LLAMA_CPP:
                raise OptionError(f"the number of {what} must be at most {_MOST_OF_LLAMA_CPP}, not {number}")


@dataclass(frozen=True)
class RoundingOptions:
    """How codes are chosen."""

    method: str = "feedback"
    """`feedback`: error feedback by the statistics of the inputs; `nearest`: each weight by itself."""
    awq: bool | None = None
    """Scale channels by the statistics of the inputs before rounding, and fold the scales into the tensors before.

    None: where it helps (`converter.scaling.stage.profits`).
    """
    damping: float = 0.02
    """Added to the moments' diagonal for error feedback, relative to its mean."""
    shrinkage: float | None = None
    """Share of the correlations between inputs that is taken for an accident of the calibration text.

    None: by the number of tokens (`converter.statistics.shrunk.shrinkage_by_tokens`).
    """
    effort: int = 2
    """How widely error feedback searches the trellis types, 1 to 3."""
    device: str = "cpu"
    """A device of PyTorch for error feedback and the search for scales."""

    def __post_init__(self) -> None:
        if self.method not in ROUNDINGS:
            raise OptionError(f"there is no rounding {self.method!r}; choose {' or '.join(ROUNDINGS)}")
        if not 0 < self.damping <= 1:
            raise OptionError(f"the damping must be above 0 and at most 1, not {self.damping}")
        if self.shrinkage is not None and not 0 <= self.shrinkage <= 1:
            raise OptionError(f"the shrinkage must be at least 0 and at most 1, not {self.shrinkage}")
        if self.effort not in EFFORT_LEVELS:
            raise OptionError(f"the effort must be one of 1, 2 and 3, not {self.effort}")

    @property
    def is_calibrated(self) -> bool:
        """Whether anything depends on statistics of the inputs."""
        return self.method != "nearest" or self.awq is not False


@dataclass(frozen=True)
class ConversionOptions:
    """Options of `convert`: those of its stages, the statistics that they share, and threads."""

    types: TypeOptions = field(default_factory=TypeOptions)
    rounding: RoundingOptions = field(default_factory=RoundingOptions)
    statistics: Path | None = None
    """File of statistics, or an imatrix of llama.cpp. One that does not exist yet is made by calibration, and kept."""
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    """How statistics are taken where there are none."""
    source: SourceAccess = field(default_factory=SourceAccess)
    threads: int = field(default_factory=available_cores)
    """Threads of each stage."""
    projector: str | None = None
    """Type of the file for images and sound that is written beside the output of a Hugging Face folder which has such
    parts, one of PROJECTOR_TYPES. None: F16 where llama.cpp's converter makes one."""
    ray: str | None = None
    """Address of a Ray cluster that rounds the tensors, `auto` for the one that this machine belongs to."""
    split: SplitLimit | None = None
    """The output becomes as many splits as this asks for."""
    max_memory: int | None = None
    """Most bytes of memory that the stages may take; None for no bound. It makes no difference to the output."""
    resume: bool = False
    """Go on with a conversion to the same output that broke off, where there is one."""
    allow_partial_statistics: bool = False
    """Accept an imatrix that has nothing on more than a tenth of the weights in blocks."""
    quantized_by: str | None = None
    """Who made the output, for its metadata; by default nobody, or who the source says."""

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if self.projector not in (None, *PROJECTOR_TYPES):
            raise OptionError(f"--mmproj is one of {', '.join(PROJECTOR_TYPES)}, not {self.projector}")
        if self.quantized_by is not None and not (self.quantized_by.strip() and self.quantized_by.isprintable()):
            raise OptionError(f"--quantized-by {self.quantized_by[:30]!r} is no name; give one that can be read")
        if self.quantized_by is not None and len(self.quantized_by) > _LONGEST_NAME:
            raise OptionError(f"the name of --quantized-by has more than {_LONGEST_NAME} letters; give a shorter one")
        if self.max_memory is not None and self.max_memory < 1:
            raise OptionError(f"the bound on memory must be positive, not {self.max_memory} bytes")
        if self.statistics and not self.rounding.is_calibrated:
            raise OptionError(
                f"the statistics {self.statistics} would have no use without error feedback and AWQ; leave them out"
            )

    @property
    def source_access(self) -> SourceAccess:
        """`source`, which may be in MXFP4 where an override leaves it so."""
        return replace(self.source, keeps_mxfp4=any(o.type.name == "mxfp4" for o in self.types.overrides))

    def recorded(self, plan: str | None = None, budget: Sequence[str] = ()) -> list[str]:
        """What decides the bytes of the output, as text for its metadata: no paths, no thread count.

        `plan` tells a plan from others; `budget` is what a plan is made for once there are statistics, and stands in
        the place of a type for all.
        """
        types, rounding = self.types, self.rounding
        chosen = [*budget] or [f"type={types.weights.name}"]
        if rounding.is_calibrated:
            chosen += [f"rounding={rounding.method}", f"awq={_AWQ[rounding.awq]}"]
            chosen.append(f"shrinkage={'auto' if rounding.shrinkage is None else f'{rounding.shrinkage:g}'}")
        if rounding.method == "feedback":
            chosen.append(f"damping={rounding.damping:g}")
            if plan is not None or budget or types.may_be_trellis:
                chosen.append(f"effort={rounding.effort}")
        if types.output:
            chosen.append(f"output-type={types.output.name}")
        if types.token_embd:
            chosen.append(f"token-embd-type={types.token_embd.name}")
        if plan is not None:
            chosen.append(f"plan={plan}")
        chosen += [f"tensor-type={override.text}" for override in types.overrides]
        if self.source.allow_requantize:
            chosen.append("allow-requantize")
        chosen += [f"hf-option={option.text}" for option in self.source.converter_options]
        return chosen


def check_threads(threads: int) -> None:
    """Raises OptionError."""
    if threads < 1:
        raise OptionError(f"the number of threads must be at least 1, not {threads}")
    if threads > _MOST_THREADS:
        raise OptionError(f"the number of threads must be at most {_MOST_THREADS}, not {threads}")
