"""What can go wrong in an export through no fault of the code."""

from eoq_formats.errors import EoqError


class ExportError(EoqError):
    """A model whose layout in a GGUF cannot be undone, or a GGUF that is not of the folder."""
