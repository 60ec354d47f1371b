"""Sizes as people write them."""

import re

from converter.errors import OptionError

_SIZE = re.compile(r"(?P<number>\d+(\.\d+)?)\s*(?P<unit>[kmgt]?i?b?)", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes, fewer than 2^63: `8GiB`, `700MB`, `1.5G` (10^9), or a number alone. Raises OptionError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise OptionError(f"{text!r} is no size; write it like 8GiB or 700MB")
    unit = match["unit"].lower().removesuffix("b")
    if unit == "i":
        raise OptionError(f"{text!r} is no size; write it like 8GiB or 700MB")
    step = 1024 if unit.endswith("i") else 1000
    size = float(match["number"]) * step ** (" kmgt".index(unit[0]) if unit else 0)
    if size >= 2**63:
        raise OptionError(f"{text[:30]!r} is more than any file or memory; write a size like 8GiB or 700MB")
    return int(size)
