"""Sizes as people write them."""

import re

from converter.errors import OptionError

_SIZE = re.compile(r"(?P<number>[0-9]{1,19}(\.[0-9]+)?)\s*(?P<unit>([kmgt]i?)?b?)", re.IGNORECASE)


def parse_size(text: str, option: str | None = None) -> int:
    """Bytes, above 0 and fewer than 2^63: `8GiB`, `700MB`, `1.5G` (10^9), or a number alone.

    Raises OptionError, which names the option, if there is one; its sizes must have a unit, as a forgotten G would
    mean bytes.
    """
    match = _SIZE.fullmatch(text.strip())
    size = 0.0
    if match is not None and (match["unit"] or option is None):
        unit = match["unit"].lower().removesuffix("b")
        size = float(match["number"]) * (1024 if unit.endswith("i") else 1000) ** (" kmgt".index(unit[:1] or " "))
    if not 1 <= size < 2**63:
        where = f"{option}: " if option else ""
        raise OptionError(f"{where}{text[:30]!r} is no size; write it like 8GiB or 700MB")
    return int(size)
