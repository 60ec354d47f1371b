"""The table of what compilers make of the shaders: every type has its row, in instructions a weight."""

import stat
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.gpu.shaders import STATISTICS, of_a_row, parse, shaders, table
from eoq_formats.types import weight_type


def fake_program(folder: Path, body: str) -> Path:
    """A program in the place of shader_statistics: SHADER.spv BINDINGS THREADS ROWS COLUMNS ..."""
    program = folder / "statistics"
    program.write_text(f"#!/bin/sh\nprintf 'device\\tNull hardware\\n'\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def test_a_row_costs_the_difference_of_two_and_one(tmp_path: Path) -> None:
    body = "\n".join(f"printf '{name}\\t%d\\n' $((100 + 32 * $4))" for name in STATISTICS)
    program = fake_program(tmp_path, body)
    eoq4 = next(shader for shader in shaders() if shader.name == "EOQ4")
    assert eoq4.constants == (weight_type("EOQ4").id,) and eoq4.weights == 8
    costs = of_a_row(program, tmp_path, eoq4)
    assert costs == dict.fromkeys(STATISTICS, 32)
    assert "| EOQ4 |          4.0 |" in table([(eoq4, costs)])


def test_a_driver_that_tells_other_things_is_refused(tmp_path: Path) -> None:
    program = fake_program(tmp_path, "printf 'Registers\\t8\\n'")
    assert parse("Registers\t8\nno statistic\n") == {"Registers": 8}
    with pytest.raises(BenchError, match="tells no Instructions, VALU"):
        of_a_row(program, tmp_path, shaders()[0])
