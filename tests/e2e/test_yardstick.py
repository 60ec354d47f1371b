"""The 0.5B model of the quality measurements converts in little memory, and talks."""

import os
import subprocess
from pathlib import Path

import pytest

from material import models
from tests.e2e.command import CONVERT, run

PEAK_BYTES = 1.5 * 2**30

QUESTION = "Write a Python function that returns the sum of two numbers."


@pytest.mark.download
def test_the_yardstick_converts_in_little_memory_and_writes_code(programs: Path, tmp_path: Path) -> None:
    target = tmp_path / "yardstick-eoq4.gguf"
    command = [*map(str, CONVERT), str(models.yardstick("0.5b")), str(target), "--type", "eoq4", "--rtn", "--quiet"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        # wait4 tells the peak of this child alone
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    peak = usage.ru_maxrss * 1024
    print(f"peak memory of the conversion: {peak / 2**20:.0f} MiB")
    assert peak < PEAK_BYTES

    options = ("--single-turn", "--simple-io", "--seed", "1", "--temp", "0", "-n", "96", "-c", "512")
    answer = run(programs / "llama-cli", "-m", target, "-p", QUESTION, *options).partition(QUESTION)[2]
    assert "def " in answer and "return" in answer
