"""The Vulkan backend, where there is a build with it and a device: Mesa's llvmpipe on a CPU is enough.

Perplexity is too slow there for every run (docs/gpu.md has it).
"""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from eoq_formats.types import WEIGHT_TYPES
from llama_programs.build import BuildKind, built_targets, layout
from llama_programs.fetch import cache_folder
from tests.e2e.command import run
from tests.e2e.conftest import Convert

PROGRAMS = ("eoq-lab", "llama-cli", "test-backend-ops")
DEVICE = "Vulkan0"
FIRST_GOOD_MESA = 25
"""Version 22.3 of llvmpipe keeps using buffers that were freed, and falls over llama.cpp's tests of any type."""


@pytest.fixture(scope="module")
def vulkan_build() -> Path:
    place = layout(cache_folder(), BuildKind(vulkan=True))
    if not built_targets(place).issuperset(PROGRAMS):
        pytest.skip("llama.cpp is not built with Vulkan here (tools/setup.sh --vulkan)")
    if shutil.which("vulkaninfo") is None:
        pytest.skip("vulkaninfo, which tells of Vulkan's devices, is not installed")
    told = subprocess.run(["vulkaninfo", "--summary"], capture_output=True, text=True).stdout
    if "deviceName" not in told:
        pytest.skip("no Vulkan device here")
    mesa = re.search(r"driverInfo\s*= Mesa (\d+)", told)
    if mesa is not None and int(mesa[1]) < FIRST_GOOD_MESA:
        pytest.skip(f"Mesa {mesa[1]} frees buffers that it still uses")
    return place.programs


@pytest.fixture
def vulkan(vulkan_build: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The programs. A device that is a CPU has to be asked for, and needs the cores that waiting threads would take."""
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("OMP_WAIT_POLICY", "passive")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return vulkan_build


def lab(programs: Path, target: Path, types: list[str], *options: str) -> dict[tuple[str, str, int], Any]:
    """What the laboratory finds, by operation, type and columns."""
    sizes = ("--rows", "40", "--length", "512", "--memory", "1", "--repeat", "1")
    run(programs / "eoq-lab", "--device", DEVICE, "--types", ",".join(types), *sizes, *options, "--json", target)
    return {(r["op"], r["type"], r["columns"]): r for r in json.loads(target.read_text())["results"]}


def test_every_type_is_right(vulkan: Path, tmp_path: Path) -> None:
    """Weights have the reference's bits; products by a vector."""
    types = [t.name.lower() for t in WEIGHT_TYPES]
    for op in ("get_rows", "cpy", "mul_mat"):
        found = lab(vulkan, tmp_path / "lab.json", types, "--op", op, "--columns", "1")
        for name in types:
            result = found[op, name, 1]
            assert result["right"] and (op == "mul_mat" or result["error"] == 0), (op, name)


def test_products_of_matrices_and_by_experts_are_right(vulkan: Path, tmp_path: Path) -> None:
    """Of one scalar type and of a trellis with free bits: to compile such a shader for a CPU takes many seconds."""
    found = lab(vulkan, tmp_path / "lab.json", ["eoq4", "eoq3t"], "--columns", "12")
    for name in ("eoq4", "eoq3t"):
        assert found["mul_mat", name, 12]["right"] and found["mul_mat_id", name, 12]["right"], name


@pytest.mark.parametrize("columns", ["1", "2", "7", "8", "16"])
def test_backend_ops(vulkan: Path, columns: str) -> None:
    """One type: all of them take an hour."""
    shape = f"type_a=eoq4,type_b=f32,m=.*,n={columns},"
    output = run(vulkan / "test-backend-ops", "test", "-o", "MUL_MAT", "-b", DEVICE, "-p", shape)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert re.search(r"^\s*([1-9]\d*)/\1 tests passed", plain, re.MULTILINE), plain[-3000:]


def test_llama_cli_answers_with_some_layers_on_the_device(vulkan: Path, smollm2: Convert) -> None:
    options = ("--single-turn", "--simple-io", "--temp", "0", "-n", "16", "-ngl", "10")
    question = "What is the capital of France?"
    said = run(vulkan / "llama-cli", "-m", smollm2("eoq4t"), "-p", question, *options)
    assert "Paris" in said.partition(question)[2]
