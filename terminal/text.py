"""Text of strangers on the terminal: what would move the cursor, colour or forge a line is shown as escapes."""

from collections.abc import Iterable

_MOST_LETTERS = 4000
"""Of one message: a name in a damaged file may have millions."""


def printable(text: str) -> str:
    r"""The text in one line, with `\n`, `\x1b` and the like in place of all that is no visible character or space."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def message(text: str) -> str:
    """A text of any length in one line of bearable length."""
    if len(text) > _MOST_LETTERS:
        text = f"{text[: _MOST_LETTERS // 2]} … {text[-_MOST_LETTERS // 2 :]}"
    return printable(text)


def say(lines: Iterable[str]) -> None:
    """Print lines, each of which stays one."""
    for line in lines:
        print(printable(line))
