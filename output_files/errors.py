"""What can go wrong with an output through no fault of the code."""

from eoq_formats.errors import EoqError


class TargetError(EoqError):
    """A file cannot be written where it should go."""
