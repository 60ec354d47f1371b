"""What can go wrong with llama.cpp's programs through no fault of the code."""

from eoq_formats.errors import EoqError


class FetchError(EoqError):
    """A package cannot be downloaded or is not what it should be."""


class BuildError(EoqError):
    """llama.cpp cannot be built, or has not been."""


class NoProgramError(EoqError):
    """A program or source tree is not where it was said to be."""


class ProgramFailed(EoqError):
    """A program could not be started, or ended with an error."""
