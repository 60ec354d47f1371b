"""Valid bytes, damaged: what fuzz tests feed readers with."""

import re
import struct
from collections.abc import Sequence

from hypothesis import strategies as st

_NUMBERS = (0, 1, 2, 63, 64, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_WORDS = (b"", b"\0", b"\xff", b"\x1b[2J", b"\n", b"..", b"/", b"x" * 64, "\U0001f600".encode(), b"\\ud800")
_JSON = (
    *(b"Infinity", b"-Infinity", b"NaN", b"1e999", b"-3", b"0", b"0.5", b"1000000000000", b"9" * 300, b"9" * 5000),
    *(b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"[[1]]", b"[" * 70 + b"]" * 70, b'"\\ud800"', b'"\\u0000"'),
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null')


@st.composite
def damaged(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """One of the valid files with up to four of its bytes, numbers, texts or stretches changed."""
    data = draw(st.sampled_from(valid))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.integers(0, 6))
        if how == 0:
            data = data[:at] + draw(st.binary(min_size=1, max_size=4)) + data[at + 1 :]
        elif how == 1:
            data = data[:at] + struct.pack("<Q", draw(st.sampled_from(_NUMBERS))) + data[at + 8 :]
        elif how == 2:
            data = data[:at] + struct.pack("<I", draw(st.sampled_from(_NUMBERS)) & 0xFFFFFFFF) + data[at + 4 :]
        elif how == 3:
            data = data[:at] + draw(st.sampled_from(_WORDS)) + data[at:]
        elif how == 4:
            data = data[:at] + data[at + draw(st.integers(1, 64)) :]
        elif how == 5:
            data = data[:at] + data[max(0, at - draw(st.integers(1, 64))) :]
        else:
            data = draw(_other_value(data))
    return data


@st.composite
def _other_value(draw: st.DrawFn, data: bytes) -> bytes:
    """The data with another value in place of one in JSON, wherever it has such."""
    tokens = list(_TOKEN.finditer(data))
    if not tokens:
        return data
    token = draw(st.sampled_from(tokens))
    return data[: token.start()] + draw(st.sampled_from(_JSON)) + data[token.end() :]
