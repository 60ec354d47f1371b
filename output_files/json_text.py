"""Results as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path


def plain(value: object) -> object:
    """A value that JSON has: paths become text, what UTF-8 has not `?`, numbers that are not finite null."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | Path):  # the name of a file may be in another encoding
        return str(value).encode(errors="replace").decode()
    return value


def json_text(value: object, indent: int | None = None) -> str:
    """A value in JSON, which can be written in UTF-8."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def exact_json(value: object) -> str:
    """A value in JSON of Python's own, which has NaN and infinities: for what this program reads again."""
    return json.dumps(value, ensure_ascii=True)


def lines_of_json(values: Mapping[str, object]) -> str:
    """A line for each key, and for each item of a list: json.dumps takes 10 s for the lines of 10^5 tensors."""
    return "{\n" + ",\n".join(f" {json_text(key)}: {_entry(value)}" for key, value in values.items()) + "\n}\n"


def _entry(value: object) -> str:
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(json_text, value)) + "\n ]"
    return json_text(value)
