"""The kernel laboratory on the CPU: it runs wherever ggml does."""

import json
import subprocess
from pathlib import Path

import pytest

from eoq_formats.types import WEIGHT_TYPES

SIZES = ("--device", "CPU", "--rows", "96", "--length", "768", "--columns", "1,3", "--memory", "1")


def lab(programs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([programs / "eoq-lab", *arguments], capture_output=True, text=True)


def test_every_operation_of_every_type_is_compared_and_timed(programs: Path, tmp_path: Path) -> None:
    target = tmp_path / "lab.json"
    done = lab(programs, *SIZES, "--repeat", "1", "--json", str(target))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(target.read_text())
    assert found["copy_bytes_per_second"] > 0
    results = {(r["op"], r["type"], r["columns"]): r for r in found["results"]}
    for t in WEIGHT_TYPES:
        for op, columns in (("mul_mat", 1), ("mul_mat", 3), ("mul_mat_id", 3), ("get_rows", 1), ("cpy", 1)):
            result = results[op, t.name.lower(), columns]
            assert result["right"]
            assert result["seconds"] > 0
            if op in ("get_rows", "cpy"):
                assert result["error"] == 0
    row = 768 * WEIGHT_TYPES[2].block_bytes / WEIGHT_TYPES[2].width
    assert results["mul_mat", "eoq4", 1]["bytes"] == 96 * row
    assert results["get_rows", "eoq4", 3]["bytes"] == 3 * row
    assert results["mul_mat_id", "eoq4", 1]["bytes"] == 2 * 96 * row  # two experts of a token


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--types", "eoq9"), "no type of ggml is named 'eoq9'"),
        (("--op", "add", *SIZES), "unknown operation 'add'"),
        (("--rows", "0"), "--rows takes whole numbers from 1, not '0'"),
        (("--device", "nowhere"), "no device 'nowhere'"),
        (("--fast",), "--fast"),
    ],
)
def test_what_it_cannot_do_it_says(arguments: tuple[str, ...], message: str, programs: Path) -> None:
    done = lab(programs, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
