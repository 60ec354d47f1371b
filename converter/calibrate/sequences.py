"""Calibration text as sequences of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from converter.calibrate.load import LoadedModel
from converter.errors import CalibrationError
from converter.options import CalibrationOptions

_BUNDLED = Path(__file__).parent / "text"
_LEAST_TOKENS = 256
_LETTERS_PER_TOKEN = 16
_LEAST_LETTERS = 1 << 22
_WINDOW = 1 << 14


@dataclass(frozen=True)
class Sequences:
    tokens: torch.Tensor
    """int64 (sequences, sequence length)"""
    text: str
    """Name of the text."""


def calibration_text(path: Path | None) -> str:
    """A user's text, or the bundled one: its files in the order of their names. Raises CalibrationError."""
    if path is None:
        files = sorted(_BUNDLED.glob("*.txt"))
        assert files, "the package lacks its calibration text"
        return "\n\n".join(file.read_text(encoding="utf-8").strip() for file in files) + "\n"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise CalibrationError(f"the calibration text {path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise CalibrationError(
            f"the calibration text {path} is not UTF-8 (byte {e.start}); give plain text in UTF-8"
        ) from None


def make_sequences(model: LoadedModel, options: CalibrationOptions) -> Sequences:
    """Cut the text into pieces, each with the marks that the model expects around it, and choose among them.

    Raises CalibrationError.
    """
    name = options.text.name if options.text else "bundled text"
    random = np.random.default_rng(options.seed)
    letters = max(options.tokens * _LETTERS_PER_TOKEN, _LEAST_LETTERS)
    text = _windows(calibration_text(options.text), letters, random)
    ids = model.encode(text)
    if len(ids) < _LEAST_TOKENS:
        raise CalibrationError(
            f"the calibration text {name} has only {len(ids)} tokens, too few for any statistics; give a longer one"
        )
    length = min(options.sequence_length, model.longest or options.sequence_length)
    payload = min(length - len(model.before) - len(model.after), len(ids))
    if payload < 1:
        raise CalibrationError(f"sequences of {length} tokens leave no room for text; ask for longer ones")
    pieces = len(ids) // payload
    chosen = _spread(pieces, max(1, options.tokens // length), random)
    rows = [[*model.before, *ids[i * payload : (i + 1) * payload], *model.after] for i in chosen]
    return Sequences(torch.tensor(rows, dtype=torch.int64), name)


def _windows(text: str, letters: int, random: np.random.Generator) -> str:
    """The text, or where it is much longer than needed, stretches from all over it: tokenising takes time."""
    if len(text) <= letters:
        return text
    chosen = _spread(len(text) // _WINDOW, letters // _WINDOW, random)
    return "\n\n".join(text[i * _WINDOW : (i + 1) * _WINDOW] for i in chosen)


def _spread(available: int, wanted: int, random: np.random.Generator) -> Sequence[int]:
    """Up to `wanted` of the numbers below `available`, one from each of as many equal stretches."""
    if available <= wanted:
        return range(available)
    edges = np.linspace(0, available, wanted + 1).astype(int)
    return [int(random.integers(a, b)) for a, b in pairwise(edges)]
