"""Text of strangers on the terminal."""

import pytest

from terminal.table import markdown_table
from terminal.text import message, printable, say


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("blk.0.attn_q.weight, Grüße 你好", "blk.0.attn_q.weight, Grüße 你好"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\nerror: b\r\t", r"a\nerror: b\r\t"),
        ("\u202egpj.exe\u2028", r"\u202egpj.exe\u2028"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\udcff", r"\udcff"),
    ],
)
def test_what_is_not_visible_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_long_messages_keep_their_ends() -> None:
    short = message("error: " + "x" * 10**7 + "; do this")
    assert len(short) < 4100 and short.startswith("error: xx") and short.endswith("xx; do this")
    assert message("error: a") == "error: a"


def test_a_line_stays_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    say([])
    say(["a\nb", "", "c"])
    assert capsys.readouterr().out == "a\\nb\n\nc\n"


def test_cells_of_a_table_stay_in_it() -> None:
    assert markdown_table(["name"], [["a\n| b"]]).splitlines()[-1] == r"| a\n| b |"
