"""Damaged files, and readers that do not know the types, end in a clear refusal."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFReader

from eoq_formats.gguf_registration import register
from eoq_formats.types import weight_type
from tests.e2e.command import run
from tests.e2e.conftest import Convert

TENSOR = "blk.3.ffn_up.weight"


def damaged_copy(model: Path, target: Path, scale: float) -> Path:
    """A copy of `model` whose TENSOR has `scale` in a block in its middle."""
    shutil.copyfile(model, target)
    register()
    (tensor,) = (t for t in GGUFReader(model).tensors if t.name == TENSOR)
    block_bytes = weight_type(int(tensor.tensor_type)).block_bytes
    block = int(tensor.n_bytes) // block_bytes // 2
    with target.open("r+b") as file:
        file.seek(int(tensor.data_offset) + block * block_bytes)
        file.write(np.array([scale], dtype="<f2").tobytes())
    return target


def load(programs: Path, model: Path, *, expect_failure: bool = False) -> str:
    options = ("--check-tensors", "-p", "Hello", "-n", "1", "--single-turn", "--simple-io")
    return run(programs / "llama-cli", "-m", model, *options, expect_failure=expect_failure)


@pytest.mark.parametrize("type_name", ["eoq4", "eoq3_64"])
def test_check_tensors_accepts_a_good_file(programs: Path, smollm2: Convert, type_name: str) -> None:
    load(programs, smollm2(type_name))


@pytest.mark.parametrize("type_name", ["eoq4", "eoq3_64"])
@pytest.mark.parametrize("scale", [np.nan, np.inf])
def test_check_tensors_refuses_a_scale_that_is_no_number(
    programs: Path, smollm2: Convert, tmp_path: Path, type_name: str, scale: float
) -> None:
    damaged = damaged_copy(smollm2(type_name), tmp_path / "damaged.gguf", scale)
    assert TENSOR in load(programs, damaged, expect_failure=True)


def test_unregistered_gguf_py_refuses_the_file(smollm2: Convert) -> None:
    """In a process of its own: registration is for the life of one."""
    script = "import gguf, sys\ngguf.GGUFReader(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, smollm2("eoq4")], capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ValueError") and "GGMLQuantizationType" in last
