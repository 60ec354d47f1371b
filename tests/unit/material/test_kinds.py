"""Texts of many kinds: long enough to measure on, and nothing of them in the calibration texts."""

from functools import cache

import pytest

from converter.calibrate.texts import bundled_texts
from material.kinds import KINDS, grouped, in_turn, is_chinese, up_to
from material.texts import mixed_text


def test_whole_paragraphs_up_to_a_length() -> None:
    assert up_to(5, ["one", "two", "three", "four"]) == ["one"]
    assert up_to(6, ["one", "two", "three", "four"]) == ["one", "two"]
    assert up_to(100, ["one", "two"]) == ["one", "two"]


def test_pieces_of_whole_paragraphs() -> None:
    assert grouped(6, ["one", "two", "three", "four"]) == ["one\n\ntwo", "three", "four"]
    assert grouped(6, []) == []


def test_sources_have_turns() -> None:
    assert in_turn([["a", "b", "c"], ["d"], ["e", "f"]]) == ["a", "d", "e", "b", "f", "c"]


def test_chinese() -> None:
    assert is_chinese("我们使用 Node, 很好") and not is_chinese("使用 Node.js") and not is_chinese("123")


@cache
def calibrated_on() -> str:
    return "\n".join((*bundled_texts().values(), mixed_text().read_text(encoding="utf-8")))


@pytest.mark.download
@pytest.mark.parametrize("kind", KINDS)
def test_length_and_no_line_in_a_calibration_text(kind: str) -> None:
    path = KINDS[kind]()
    assert 80_000 < path.stat().st_size < 150_000
    lines = path.read_text(encoding="utf-8").splitlines()
    # 16 windows of 512 tokens, if a token has six bytes, which is more than any kind has
    assert sum(len(line.encode()) for line in lines) > 16 * 512 * 6
    # short lines may stand anywhere: `return None`, "Hello,"
    long = [line.strip() for line in lines if len(line.encode()) > 70]
    assert len(long) > 50 and not [line for line in long if line in calibrated_on()]
