"""Calibration texts as files for llama-moments."""

import lzma
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from converter.errors import CalibrationError
from converter.options import OWN_TEXT, CalibrationOptions, CalibrationText
from input_files.ordinary import check_ordinary, read_text
from output_files.leftovers import scratch_folder
from output_files.whole import explained

_BUNDLED = Path(__file__).parent / "text"
_LETTERS_PER_TOKEN = 16
_LEAST_LETTERS = 1 << 22
_WINDOW = 1 << 14
_MOST_BYTES = 1 << 30
_WHAT = "the calibration text"


@contextmanager
def text_files(options: CalibrationOptions) -> Iterator[Sequence[CalibrationText]]:
    """The user's texts, or one for each kind of the bundled ones, as long as the context lives.

    Raises CalibrationError for a text that cannot be read or is not UTF-8.
    """
    with scratch_folder(Path(tempfile.gettempdir())) as scratch:
        if not options.texts:
            bundled = []
            for kind, text in bundled_texts().items():
                file = scratch / f"bundled-{kind}.txt"
                _write(file, text)
                bundled.append(CalibrationText(file))
            yield bundled
            return
        letters = max(options.tokens * _LETTERS_PER_TOKEN, _LEAST_LETTERS)
        yield [
            text if text.path == OWN_TEXT else replace(text, path=_of_use(text.path, letters, scratch / str(i)))
            for i, text in enumerate(options.texts)
        ]


def check_texts(texts: Sequence[CalibrationText]) -> None:
    """Look, before any work, whether the texts can be read at all. Raises CalibrationError."""
    for text in texts:
        if text.path != OWN_TEXT:
            check_ordinary(text.path, CalibrationError, _WHAT, most=_MOST_BYTES)


def bundled_texts() -> dict[str, str]:
    """The texts that come with the converter by kind, from chat to prose."""
    files = sorted(_BUNDLED.glob("*.txt.xz"))
    assert files, "the package lacks its calibration text"
    return {file.name.removesuffix(".txt.xz"): lzma.decompress(file.read_bytes()).decode("utf-8") for file in files}


def _of_use(path: Path, letters: int, scratch: Path) -> Path:
    """The file itself, or where it is much longer than needed, stretches from all over it: tokenising takes time."""
    text = read_text(path, CalibrationError, _WHAT, most=_MOST_BYTES)
    if len(text) <= letters:
        return path.absolute()
    scratch.mkdir()
    shortened = scratch / path.name
    _write(shortened, _stretches(text, letters, whole_lines=path.suffix == ".jsonl"))
    return shortened


def _write(file: Path, text: str) -> None:
    with explained(f"cannot write a calibration text in {file.parent}"):
        file.write_text(text, encoding="utf-8")


def _stretches(text: str, letters: int, *, whole_lines: bool) -> str:
    """About so many letters from all over a text: stretches of it, or whole lines where each is a conversation."""
    if whole_lines:
        lines = text.splitlines(keepends=True)
        return "".join(_spread(lines, max(1, letters * len(lines) // len(text))))
    windows = [text[start : start + _WINDOW] for start in range(0, len(text) - _WINDOW + 1, _WINDOW)]
    return "\n\n".join(_spread(windows, letters // _WINDOW))


def _spread(parts: Sequence[str], wanted: int) -> Sequence[str]:
    """The middle one of each of as many equal stretches."""
    return [parts[(2 * i + 1) * len(parts) // (2 * wanted)] for i in range(wanted)]
