"""Precisions by the names that the papers use, and the tensor types that they stand for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from converter.errors import OptionError
from converter.type_choice import TypeChoice, parse_type

_FINE = ("eoq6", "q8_0", "f16")
LADDERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "scalar": ("eoq2", "eoq3", "eoq4", "eoq5", *_FINE),
        "trellis": ("eoq2t", "eoq3t", "eoq4t", "eoq5t", *_FINE),
    }
)
"""Types from coarse to fine, by the kind of code that the coarse ones have."""
RAW = "raw"
"""Left as it is in the source."""
STEPS = (RAW, "8bit", "4bit", "2bit")
"""Levels that blocks may have on a cluster, from fine to coarse."""
LEVELS: Mapping[str, str] = MappingProxyType(
    {RAW: RAW, "8bit": "q8_0", "4bit": "eoq4", "3bit": "eoq3", "2bit": "eoq2", "1.58bit": "eoq2"}
)
"""The types by default; `raw` is the source's own."""


@dataclass(frozen=True)
class LevelTable:
    """Which type a level stands for. Raises OptionError or UnknownTypeError when made of what does not exist."""

    types: Mapping[str, str] = field(default_factory=lambda: LEVELS)

    def __post_init__(self) -> None:
        for level in self.types:
            _ = self[level]

    @classmethod
    def changed(cls, texts: Iterable[str]) -> "LevelTable":
        """The default table with some levels changed, each as `LEVEL=TYPE`."""
        types = dict(LEVELS)
        for text in texts:
            level, equals, name = text.partition("=")
            if not equals or level not in LEVELS:
                raise OptionError(f"level {text!r} is not LEVEL=TYPE with one of the levels {', '.join(LEVELS)}")
            types[level] = name.strip().lower()
        return cls(types)

    def __getitem__(self, level: str) -> TypeChoice | None:
        """The type, None for `raw`."""
        if level not in self.types:
            raise OptionError(f"there is no level {level!r}; choose one of {', '.join(self.types)}")
        name = self.types[level]
        return None if name == RAW else parse_type(name)


@dataclass(frozen=True)
class Precisions:
    """Levels of a model's blocks, and how they may change."""

    steps: tuple[str, ...]
    """From the finest level to the coarsest, all that a block may have."""
    levels: tuple[str, ...]
    """Level of each block, before anything is known of machines."""
    order: tuple[int, ...]
    """Blocks, the one to lose precision first at the start: by ascending entropy."""
