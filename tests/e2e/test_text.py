"""A converted language model talks, and predicts text about as well as its source."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.command import perplexity, run
from tests.e2e.conftest import Convert

QUESTION = "What is the capital of France?"


@pytest.mark.parametrize("type_name", ["eoq4", "eoq5"])
def test_llama_cli_answers(programs: Path, smollm2: Convert, type_name: str) -> None:
    options = ("--single-turn", "--simple-io", "--seed", "1", "--temp", "0", "-n", "48")
    answer = run(programs / "llama-cli", "-m", smollm2(type_name), "-p", QUESTION, *options)
    assert "Paris" in answer.partition(QUESTION)[2]


@pytest.fixture(scope="module")
def measure(programs: Path, evaluation_text: Path) -> Callable[[Path], float]:
    """Perplexity of a model on 2048 tokens of news."""

    @cache
    def perplexity_of(model: Path) -> float:
        return perplexity(programs, model, evaluation_text, chunks=4, context=512)

    return perplexity_of


# What rounding to nearest costs a model of 135M is measured in the README. These bounds are for gross errors, such as a
# rotation that the file and the kernel do not share, which gives ratios of thousands.
@pytest.mark.parametrize(("type_name", "bound"), [("eoq6", 1.05), ("eoq5", 1.15), ("eoq4", 2.0)])
def test_perplexity_is_near_that_of_f16(
    measure: Callable[[Path], float], smollm2_f16: Path, smollm2: Convert, type_name: str, bound: float
) -> None:
    ratio = measure(smollm2(type_name)) / measure(smollm2_f16)
    print(f"perplexity of {type_name} over that of F16: {ratio:.4f}")
    assert 0.9 < ratio < bound
