"""What can go wrong in a benchmark through no fault of the code."""

from eoq_formats.errors import EoqError


class BenchError(EoqError):
    """Options that do not go together, or files that are not what they should be."""
