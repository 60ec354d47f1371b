"""A converted language model talks, and predicts text about as well as its source."""

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


# RTN, a model of 135M: measured ratios stand in the README; these bounds are for gross errors, such as a
# rotation that the file and the kernel do not share (ratios of thousands)
@pytest.mark.parametrize(("type_name", "bound"), [("eoq5", 1.10), ("eoq4", 1.35)])
def test_perplexity_is_near_that_of_f16(
    programs: Path, smollm2_f16: Path, smollm2: Convert, evaluation_text: Path, type_name: str, bound: float
) -> None:
    def measure(model: Path) -> float:
        return perplexity(programs, model, evaluation_text, chunks=8, context=512)

    ratio = measure(smollm2(type_name)) / measure(smollm2_f16)
    print(f"perplexity of {type_name} over that of F16: {ratio:.4f}")
    assert 0.9 < ratio < bound
