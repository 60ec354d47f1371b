"""The texts: what was calibrated on is not what is measured on."""

import pytest

from llama_programs.fetch import sha256_of
from material.texts import (
    BUNDLED,
    CODE_FILES,
    CODE_SHA256,
    MIXED_SHA256,
    calibration_text,
    code_text,
    evaluation_text,
    mixed_text,
    piece,
    pieces,
)


def test_a_piece_is_whole_lines() -> None:
    code = "".join(f"line {i}\n" for i in range(10))
    # "line 0\nli" is skipped, so that line 1 is not whole, and of line 5 only a part is taken
    assert piece(code, skipped=9, taken=30) == "line 2\nline 3\nline 4"


def test_pieces_are_whole_lines_and_together_the_text() -> None:
    text = "one\ntwo\n\nthree\nfour"
    assert pieces(text, 4) == ["one\ntwo", "three", "four"]
    assert pieces(text, 100) == [text]
    assert pieces("", 4) == []


@pytest.mark.download
def test_the_mixed_text_has_the_news_and_a_part_of_every_bundled_file() -> None:
    text = mixed_text().read_text()
    assert sha256_of(mixed_text()) == MIXED_SHA256
    assert text.startswith(calibration_text().read_text().strip())
    for file in BUNDLED.glob("*.txt"):
        assert file.read_text()[:3000].strip() in text
    assert not any(document.strip() in text for document in evaluation_text().read_text().strip().split("\n\n"))


@pytest.mark.download
def test_news_for_calibration_and_evaluation_share_no_document() -> None:
    calibration, evaluation = (
        path.read_text().strip().split("\n\n") for path in (calibration_text(), evaluation_text())
    )
    assert (len(calibration), len(evaluation)) == (150, 100)
    assert not {d.strip() for d in calibration} & {d.strip() for d in evaluation}


@pytest.mark.download
def test_code_is_the_text_that_was_measured_on() -> None:
    text = code_text()
    assert sha256_of(text) == CODE_SHA256
    assert 100_000 < text.stat().st_size < 150_000
    assert len(set(CODE_FILES)) == len(CODE_FILES)
