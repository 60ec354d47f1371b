"""What can go wrong with a model that is read through no fault of the code."""

from eoq_formats.errors import EoqError


class SourceError(EoqError):
    """A model file is missing, damaged, or of a kind that cannot be read."""


class ChangedSourceError(SourceError):
    """A model file is not what it was when the work on it began."""


class QuantizedSourceError(SourceError):
    """A model is quantised already, and requantising was not asked for."""
