"""Regular expressions of strangers."""

import re

from eoq_formats.errors import EoqError

MOST_LETTERS = 4096


def check_expression(pattern: str, error: type[EoqError], what: str) -> None:
    """Raise `error`, whose message begins with `what`, for what is no expression, or one of unbearable size."""
    if len(pattern) > MOST_LETTERS:
        raise error(f"{what} has an expression of {len(pattern):,} letters; give one of {MOST_LETTERS:,} at most")
    try:
        re.compile(pattern)
    except (re.error, OverflowError) as e:
        raise error(f"{what}: {pattern!r} is not a regular expression ({e})") from None
    except RecursionError:
        raise error(f"{what} has an expression that nests too deep; give a simpler one") from None
