"""The CPU's sources compile for every kind of x86-64 that a portable build of llama.cpp has a library for."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "ggml_patch" / "cpu").glob("*.c"))
AVX2 = "-msse4.2 -mavx -mf16c -mfma -mavx2 -mbmi2"
AVX512 = f"{AVX2} -mavx512f -mavx512cd -mavx512vl -mavx512dq -mavx512bw"
KINDS = {
    "x64": "",
    "sse42": "-msse4.2",
    "sandybridge": "-msse4.2 -mavx",
    "ivybridge": "-msse4.2 -mavx -mf16c",
    "piledriver": "-msse4.2 -mavx -mf16c -mfma",
    "haswell": AVX2,
    "skylakex": AVX512,
    "cannonlake": f"{AVX512} -mavx512vbmi",
    "cascadelake": f"{AVX512} -mavx512vnni",
    "icelake": f"{AVX512} -mavx512vbmi -mavx512vnni",
    "zen4": f"{AVX512} -mavx512vbmi -mavx512vnni -mavx512bf16",
    "alderlake": f"{AVX2} -mavxvnni",
}
"""As ggml's CMakeLists.txt names them: features, and not models of CPUs, which have more of them."""

pytestmark = pytest.mark.skipif(
    platform.machine() != "x86_64" or shutil.which("cc") is None, reason="needs a C compiler for x86-64"
)


@pytest.mark.parametrize("kind", KINDS)
def test_they_compile(kind: str) -> None:
    includes = [f"-I{ROOT / 'ggml_patch' / folder}" for folder in ("base", "cpu", ".")]
    command = [
        "cc",
        "-std=gnu11",
        "-fsyntax-only",
        "-Wall",
        "-Werror=implicit-function-declaration",
        "-DEOQ_STANDALONE",
    ]
    done = subprocess.run([*command, *KINDS[kind].split(), *includes, *SOURCES], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
