"""What can go wrong in an evaluation through no fault of the code. Tools print the message and exit with status 1."""

from eoq_formats.errors import EoqError


class EvaluationError(EoqError):
    """An option, text or model that cannot be evaluated, or llama-perplexity failed on it."""


class OutputError(EvaluationError):
    """llama-perplexity ended without printing what was asked of it."""
