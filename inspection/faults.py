"""What is wrong with a file."""

from dataclasses import dataclass

from eoq_formats.errors import EoqError


class UnsoundFileError(EoqError):
    """A file is not what it should be."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong."""

    tensor: str | None
    """None for what concerns the file as a whole."""
    text: str

    def __str__(self) -> str:
        return self.text if self.tensor is None else f"tensor {self.tensor}: {self.text}"


class InspectionError(EoqError):
    """What is asked of an inspection cannot be done."""
