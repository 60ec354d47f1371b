"""Calibration texts as files."""

import json
import re
from pathlib import Path

import pytest

from converter.calibrate.texts import bundled_texts, text_files
from converter.errors import CalibrationError
from converter.options import OWN_TEXT, CalibrationOptions, CalibrationText


def test_texts_of_the_user_are_given_as_they_are(tmp_path: Path) -> None:
    first, second = tmp_path / "a.txt", tmp_path / "b.txt"
    first.write_text("one")
    second.write_text("zwei grüne")
    texts = (CalibrationText(first), CalibrationText(second, 2.5), CalibrationText(OWN_TEXT))
    with text_files(CalibrationOptions(texts=texts)) as files:
        assert tuple(files) == texts


def test_only_stretches_of_a_huge_text_are_tokenised(tmp_path: Path) -> None:
    huge = tmp_path / "huge.txt"
    huge.write_text("".join(f"{i:09} " for i in range(2_000_000)))
    with text_files(CalibrationOptions(texts=(CalibrationText(huge, 2),))) as (text,):
        shortened = text.path
        assert text.weight == 2
        assert shortened != huge and shortened.name == huge.name
        stretches = shortened.read_text().split("\n\n")
        assert len(stretches) == 256 and {len(stretch) for stretch in stretches} == {1 << 14}
        starts = [int(stretch.split()[1]) for stretch in stretches]
        # the middle of each of as many parts of the text
        for i, start in enumerate(starts):
            assert abs(start / 2_000_000 - (i + 0.5) / 256) < 0.5 / 256
    assert not shortened.exists() and huge.exists()


def test_of_many_conversations_whole_lines_are_taken(tmp_path: Path) -> None:
    huge = tmp_path / "chats.jsonl"
    huge.write_text("".join(f'{{"messages": "{i:0100}"}}\n' for i in range(100_000)))
    with text_files(CalibrationOptions(texts=(CalibrationText(huge),))) as (text,):
        lines = text.path.read_text().splitlines()
    numbers = [int(json.loads(line)["messages"]) for line in lines]
    assert 0.9 * (1 << 22) < 117 * len(lines) <= 1 << 22
    assert numbers == sorted(set(numbers)) and numbers[0] < 3 and numbers[-1] > 99_996


def test_bundled_texts_come_by_kind() -> None:
    with text_files(CalibrationOptions()) as files:
        paths = [text.path for text in files]
        assert [path.name for path in paths] == [f"bundled-{kind}.txt" for kind in bundled_texts()]
        texts = {path.stem.removeprefix("bundled-"): path.read_text(encoding="utf-8") for path in paths}
    assert texts == bundled_texts()
    samples = {
        "chat": "Assistant:",
        "code": "def ",
        "data": "<table",
        "encyclopaedia": "Atomic number",
        "languages": "人人",
        "maths": "Theorem",
        "news": "Thursday",
        "prose": "Alice",
    }
    assert list(texts) == list(samples)
    for kind, sample in samples.items():
        assert sample in texts[kind] and len(texts[kind]) > 250_000


def test_bundled_texts_are_clean() -> None:
    for text in bundled_texts().values():
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]|[ \t]\n", text)
        assert text.endswith("\n") and text == text.strip("\n") + "\n"


def test_texts_that_are_of_no_use_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    for name, message in (("missing.txt", "cannot be read: No such file"), ("latin.txt", r"not UTF-8 text \(byte 2\)")):
        with (
            pytest.raises(CalibrationError, match=message),
            text_files(CalibrationOptions(texts=(CalibrationText(tmp_path / name),))),
        ):
            pass
