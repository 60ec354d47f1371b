"""Text cut into sequences."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from converter.calibrate.load import LoadedModel
from converter.calibrate.sequences import calibration_text, make_sequences
from converter.errors import CalibrationError
from converter.options import CalibrationOptions

LETTERS = "".join(chr(0x4E00 + i) for i in range(5000))


def model(before: tuple[int, ...] = (), after: tuple[int, ...] = (), longest: int | None = None) -> LoadedModel:
    """A letter is a token; the marks are small numbers."""
    return LoadedModel(SimpleNamespace(), lambda text: [ord(c) for c in text], list(before), list(after), longest)


def write(folder: Path, text: str = LETTERS) -> Path:
    path = folder / "text.txt"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_short_text_is_taken_whole(folder: Path) -> None:
    options = CalibrationOptions(text=write(folder), tokens=8000, sequence_length=100)
    found = make_sequences(model(), options)
    assert found.text == "text.txt"
    assert found.tokens.shape == (50, 100) and found.tokens.dtype == torch.int64
    assert "".join(map(chr, found.tokens.flatten().tolist())) == LETTERS


def test_sequences_of_a_long_text_come_from_all_over_it(folder: Path) -> None:
    path = write(folder)
    options = CalibrationOptions(text=path, tokens=1000, sequence_length=100)
    found = make_sequences(model(), options).tokens
    assert found.shape == (10, 100)
    starts = [(row[0] - 0x4E00) // 100 for row in found.tolist()]
    assert [start // 5 for start in starts] == list(range(10))  # one from each tenth
    assert torch.equal(found, make_sequences(model(), options).tokens)
    other = CalibrationOptions(text=path, tokens=1000, sequence_length=100, seed=1)
    assert not torch.equal(found, make_sequences(model(), other).tokens)


def test_marks_stand_around_every_sequence(folder: Path) -> None:
    options = CalibrationOptions(text=write(folder), tokens=1000, sequence_length=100)
    tokens = make_sequences(model(before=(1,), after=(2, 3)), options).tokens
    assert tokens.shape == (10, 100)
    assert (tokens[:, 0] == 1).all() and (tokens[:, -2:] == torch.tensor([2, 3])).all()
    assert (tokens[:, 1:-2] >= 0x4E00).all()


def test_sequences_are_no_longer_than_the_model_can_take(folder: Path) -> None:
    options = CalibrationOptions(text=write(folder), tokens=1000, sequence_length=500)
    assert make_sequences(model(longest=64), options).tokens.shape == (15, 64)


def test_a_text_shorter_than_a_sequence_makes_one(folder: Path) -> None:
    options = CalibrationOptions(text=write(folder, LETTERS[:300]))
    assert make_sequences(model(before=(1,)), options).tokens.shape == (1, 301)


def test_only_stretches_of_a_huge_text_are_tokenised(folder: Path) -> None:
    seen: list[int] = []
    huge = model()

    def counted(text: str) -> list[int]:
        seen.append(len(text))
        return huge.encode(text)

    counting = LoadedModel(huge.network, counted, [], [], None)
    options = CalibrationOptions(text=write(folder, LETTERS * 1000), tokens=1024)
    assert make_sequences(counting, options).tokens.shape == (2, 512)
    assert seen == [(1 << 22) + 2 * 255]  # 256 stretches


def test_texts_that_are_of_no_use_are_refused(folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"text\.txt has only 10 tokens"):
        make_sequences(model(), CalibrationOptions(text=write(folder, LETTERS[:10])))
    with pytest.raises(CalibrationError, match="cannot be read: No such file"):
        make_sequences(model(), CalibrationOptions(text=folder / "missing.txt"))
    (folder / "text.txt").write_bytes("grün".encode("latin-1"))
    with pytest.raises(CalibrationError, match=r"not UTF-8 \(byte 2\)"):
        make_sequences(model(), CalibrationOptions(text=folder / "text.txt"))


def test_the_bundled_text_is_there() -> None:
    text = calibration_text(None)
    assert 300_000 < len(text.encode()) < 800_000
    assert "def " in text and "Theorem" in text and "Assistant:" in text and "世界" in text
