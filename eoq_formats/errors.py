"""Errors that a user can cause. Tools print the message and exit with status 1."""


class EoqError(Exception):
    """Base of all errors that a user can cause; the message says what is wrong, where, and what to do."""


class UnknownTypeError(EoqError):
    """A tensor type name or id that EOQ does not know."""


class NonFiniteWeightError(EoqError):
    """A weight is NaN or infinite."""


class ScaleOverflowError(EoqError):
    """A block of weights is too large for the fp16 scale of the EOQ types."""
