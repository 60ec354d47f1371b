"""llama.cpp's own tests, built from the patched tree, cover all types and pass."""

import re
from pathlib import Path

import pytest

from eoq_formats.types import WEIGHT_TYPES
from tests.e2e.command import run

NAMES = [t.name.lower() for t in WEIGHT_TYPES]


def test_quantize_fns(programs: Path) -> None:
    output = run(programs / "test-quantize-fns", "-v")
    for name in NAMES:
        results = re.findall(rf"^\s*{name} (.+?):\s+(\w+) \(", output, re.MULTILINE)
        assert {kind for kind, _ in results} == {
            "absolute quantization error",
            "reference implementation error",
            "dot product error",
        }, f"{name} is not tested: {output[-2000:]}"
        assert all(verdict == "ok" for _, verdict in results), (name, results)


@pytest.mark.parametrize(("op", "field"), [("MUL_MAT", "type_a"), ("MUL_MAT_ID", "type_a"), ("GET_ROWS", "type")])
def test_backend_ops(programs: Path, op: str, field: str) -> None:
    """Only the cases of our types: all of them take a quarter of an hour."""
    output = run(programs / "test-backend-ops", "test", "-o", op, "-p", "eoq", "-b", "CPU")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert re.search(r"^\s*(\d+)/\1 tests passed", plain, re.MULTILINE), plain[-3000:]
    for name in NAMES:
        # as all types, ours are multiplied by float32 only
        results = re.findall(rf"{op}\({field}={name},(?!type_b=f16).*\): (.+)", plain)
        assert results, f"{op} is not tested with {name}"
        assert set(results) == {"OK"}, (name, set(results))
