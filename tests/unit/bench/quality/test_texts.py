"""The texts that benchmarks can be told to measure on."""

import pytest

from bench.quality.texts import ALL_KINDS, DEFAULT_TEXTS, TEXTS, chosen_texts
from material.kinds import KINDS
from material.texts import code_text, evaluation_text


def test_documented_commands_measure_on_news_and_code() -> None:
    assert list(DEFAULT_TEXTS.items()) == [("news", evaluation_text), ("code", code_text)]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["code", "news"], ["code", "news"]),
        (["chat", "chat"], ["chat"]),
        ([ALL_KINDS], list(KINDS)),
        (["code", ALL_KINDS, "news"], ["code", *KINDS]),
    ],
)
def test_texts_by_name(names: list[str], chosen: list[str]) -> None:
    assert list(chosen_texts(names)) == chosen
    assert all(chosen_texts(names)[name] is TEXTS[name] for name in chosen)
