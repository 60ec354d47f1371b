"""Models, converted once for all end-to-end tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from material import models, texts
from tests.e2e.command import convert, run

Convert = Callable[[str], Path]


@pytest.fixture(scope="session")
def evaluation_text() -> Path:
    return texts.evaluation_text()


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the converted models go."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def smollm2_f16(programs: Path, work: Path) -> Path:
    """SmolLM2-135M-Instruct as F16: what the EOQ files are made of and compared with."""
    target = work / "smollm2-f16.gguf"
    run(programs / "llama-quantize", "--allow-requantize", models.smollm2(), target, "F16")
    return target


@pytest.fixture(scope="session")
def smollm2(smollm2_f16: Path, work: Path) -> Convert:
    """Gives SmolLM2 in an EOQ type, converted at the first call."""

    def get(type_name: str) -> Path:
        target = work / f"smollm2-{type_name}.gguf"
        if not target.exists():
            convert(smollm2_f16, target, "--type", type_name, "--rtn", "--quiet")
        return target

    return get


@pytest.fixture(scope="session")
def minilm_f32(llama_source: Path, work: Path) -> Path:
    """all-MiniLM-L6-v2 as F32, by llama.cpp's own converter."""
    target = work / "minilm-f32.gguf"
    script = llama_source / "convert_hf_to_gguf.py"
    run(sys.executable, script, models.minilm(), "--outtype", "f32", "--outfile", target)
    return target


@pytest.fixture(scope="session")
def minilm(llama_source: Path, work: Path) -> Convert:
    """Gives MiniLM in an EOQ type, converted from its Hugging Face folder."""

    def get(type_name: str) -> Path:
        target = work / f"minilm-{type_name}.gguf"
        if not target.exists():
            convert(models.minilm(), target, "--type", type_name, "--rtn", "--quiet", "--llama-dir", llama_source)
        return target

    return get
