"""Small model files, a text, and a program that stands in for llama-perplexity."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFWriter

from eoq_formats.gguf_registration import register
from evaluation import EvaluationOptions
from tests.samples.gguf_samples import as_type, tiny_model, write_gguf
from tests.unit.evaluation import fake_perplexity

register()

MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """Writes a tiny GGUF with a vocabulary; a `type` makes its larger matrices of that type."""

    def make(name: str, type: str | None = None, tokens: Sequence[str] | None = None) -> Path:
        tensors = tiny_model()
        if type is not None:
            kind = GGMLQuantizationType[type]
            for tensor in ("blk.0.attn_q.weight", "blk.0.ffn_down.weight"):
                tensors[tensor] = as_type(tensors[tensor], kind)
        words = [f"token{i}" for i in range(fake_perplexity.VOCABULARY)] if tokens is None else list(tokens)

        def vocabulary(writer: GGUFWriter) -> None:
            if words:
                writer.add_token_list(words)

        return write_gguf(tmp_path / name, tensors, vocabulary)

    return make


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("word " * 4000)
    return path


@pytest.fixture
def fake_bin(tmp_path: Path) -> Path:
    """A folder with the stand-in under the name of the program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "llama-perplexity"
    source = Path(fake_perplexity.__file__).read_text()
    program.write_text(f"#!{sys.executable}\n" + source.partition("\n")[2])
    program.chmod(0o755)
    return folder


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """The work folder, to see what is left in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def options(fake_bin: Path, work: Path) -> EvaluationOptions:
    return EvaluationOptions(llama_bin=fake_bin, work_dir=work, threads=1)
