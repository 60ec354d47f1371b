"""JSON and TOML of strangers: what is damaged, nests without end or holds half a character is refused by name."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eoq_formats.errors import EoqError
from input_files.ordinary import read_text

MOST_BYTES = 1 << 26
"""Of a file; the largest in use, the index of a model of 700 billion weights, has 2^23."""
MOST_TOML_BYTES = 1 << 20
MOST_DOTS = 256
"""In a line: tomllib takes a time for a key that grows with the square of its parts."""
MOST_LEVELS = 64
"""Lists and tables within each other; models' configurations have up to seven."""


def read_json(path: Path, error: type[EoqError], what: str = "") -> Any:
    """The content of a JSON file. Raises `error`, which names the file."""
    return parse_json(read_text(path, error, what, most=MOST_BYTES), error, f"{what} {path}".strip())


def read_toml(path: Path, error: type[EoqError], what: str = "") -> Any:
    """The content of a TOML file. Raises `error`, which names the file."""
    text = read_text(path, error, what, most=MOST_TOML_BYTES)
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise error(f"{what} {path} has a line with more than {MOST_DOTS} dots; make it simpler".strip())
    return _parsed(tomllib.loads, text, "TOML", error, f"{what} {path}".strip())


def parse_json(text: str, error: type[EoqError], what: str) -> Any:
    """The content of a text in JSON. Raises `error`, whose message begins with `what`."""
    return _parsed(json.loads, text, "JSON", error, what)


def _parsed(parse: Callable[[str], Any], text: str, kind: str, error: type[EoqError], what: str) -> Any:
    try:
        content = parse(text)
    except RecursionError:
        raise _too_deep(error, what) from None
    except ValueError as e:
        raise error(f"{what} is not {kind}: {e}; mend it or make it anew") from None
    _check(content, error, what)
    return content


def _check(content: Any, error: type[EoqError], what: str) -> None:
    """Without recursion: what parses may still be too deep for what works on it."""
    level = [content]
    for _ in range(MOST_LEVELS):
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner += one.keys()
                inner += one.values()
            elif isinstance(one, list):
                inner += one
            elif isinstance(one, str) and not _is_whole(one):
                raise error(f"{what} has the half of a surrogate pair in a text; make it anew")
        if not inner:
            return
        level = inner
    raise _too_deep(error, what)


def _is_whole(text: str) -> bool:
    """Whether the text can be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _too_deep(error: type[EoqError], what: str) -> EoqError:
    return error(f"{what} nests lists and tables more than {MOST_LEVELS} deep; make it anew")
