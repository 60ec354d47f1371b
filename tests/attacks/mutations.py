"""Valid bytes, damaged: what fuzz tests feed readers with."""

import random
import re
import struct
from collections.abc import Sequence
from typing import Protocol, TypeVar

from hypothesis import strategies as st

T = TypeVar("T")

_NUMBERS = (0, 1, 2, 63, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (b"", b"\0", b"\xff", b"\x1b[2J", b"\n", b"..", b"/", b"x" * 64, "\U0001f600".encode(), b"\\ud800")
_JSON = (
    *(b"Infinity", b"-Infinity", b"NaN", b"1e999", b"-3", b"0", b"0.5", b"1000000000000", b"9" * 300, b"9" * 5000),
    *(b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"[[1]]", b"[" * 70 + b"]" * 70, b'"\\ud800"', b'"\\u0000"'),
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[][{}]')


class Choices(Protocol):
    """Where the decisions of a mutation come from."""

    def number(self, least: int, most: int) -> int: ...

    def one_of(self, values: Sequence[T]) -> T: ...

    def some_bytes(self, least: int, most: int) -> bytes: ...


class Drawn:
    """Hypothesis decides, and makes a failing example small."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def number(self, least: int, most: int) -> int:
        return self._draw(st.integers(least, most))

    def one_of(self, values: Sequence[T]) -> T:
        return self._draw(st.sampled_from(values))

    def some_bytes(self, least: int, most: int) -> bytes:
        return self._draw(st.binary(min_size=least, max_size=most))


class Thrown:
    """A generator of random numbers decides, a hundred times as fast."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def number(self, least: int, most: int) -> int:
        return self._random.randint(least, most)

    def one_of(self, values: Sequence[T]) -> T:
        return self._random.choice(values)

    def some_bytes(self, least: int, most: int) -> bytes:
        return self._random.randbytes(self.number(least, most))


def damage(valid: Sequence[bytes], choose: Choices) -> bytes:
    """One of the valid files with up to four of its bytes, numbers, texts or stretches changed."""
    data = choose.one_of(valid)
    for _ in range(choose.number(1, 4)):
        at = choose.number(0, len(data))
        how = choose.number(0, 6)
        if how == 0:
            data = data[:at] + choose.some_bytes(1, 4) + data[at + 1 :]
        elif how == 1:
            data = data[:at] + struct.pack("<Q", choose.one_of(_NUMBERS)) + data[at + 8 :]
        elif how == 2:
            data = data[:at] + struct.pack("<I", choose.one_of(_NUMBERS) & 0xFFFFFFFF) + data[at + 4 :]
        elif how == 3:
            data = data[:at] + choose.one_of(_WORDS) + data[at:]
        elif how == 4:
            data = data[:at] + data[at + choose.number(1, 64) :]
        elif how == 5:
            data = data[:at] + data[max(0, at - choose.number(1, 64)) :]
        else:
            data = _with_other_value(data, choose)
    return data


@st.composite
def damaged(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """`damage` for hypothesis."""
    return damage(valid, Drawn(draw))


def _with_other_value(data: bytes, choose: Choices) -> bytes:
    """The data with another value in place of one in JSON, an array or an object too, wherever it has such."""
    tokens = [token for token in _TOKEN.finditer(data) if token[0] not in b"]}"]
    if not tokens:
        return data
    token = choose.one_of(tokens)
    return data[: token.start()] + choose.one_of(_JSON) + data[_end_of_value(data, token) :]


def _end_of_value(data: bytes, token: "re.Match[bytes]") -> int:
    """Where the value ends that begins with a token: itself, or the bracket that closes it."""
    depth, end = 0, token.end()
    for part in _TOKEN.finditer(data, token.start()):
        depth += (part[0] in b"[{") - (part[0] in b"]}")
        end = part.end()
        if depth <= 0:
            break
    return end
