"""The 0.5B model of the quality measurements converts in little memory, and talks."""

from pathlib import Path

import pytest

from llama_programs.run import timed_run
from material import models
from tests.e2e.command import CONVERT, run

PEAK_BYTES = 1.5 * 2**30

QUESTION = "Write a Python function that returns the sum of two numbers."


@pytest.mark.download
def test_the_yardstick_converts_in_little_memory_and_writes_code(programs: Path, tmp_path: Path) -> None:
    target = tmp_path / "yardstick-eoq4.gguf"
    command = [*map(str, CONVERT), str(models.yardstick("0.5b")), str(target), "--type", "eoq4", "--rtn", "--quiet"]
    _, peak = timed_run(command)
    print(f"peak memory of the conversion: {peak / 2**20:.0f} MiB")
    assert peak < PEAK_BYTES

    options = ("--single-turn", "--simple-io", "--seed", "1", "--temp", "0", "-n", "96", "-c", "512")
    answer = run(programs / "llama-cli", "-m", target, "-p", QUESTION, *options).partition(QUESTION)[2]
    assert "def " in answer and "return" in answer
