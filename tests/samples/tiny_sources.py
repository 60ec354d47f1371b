"""Random models as Hugging Face folder and as F32 GGUF, with a text that their tokenizer knows."""

from pathlib import Path

from converter.ingest.hf_convert import convert_to_gguf
from converter.ingest.hf_folder import read_hf_folder
from converter.plan.keep_rules import keep_reason
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress
from tests.samples.tiny_models import write_model

_SENTENCES = [f"the model number {i} answers {i * i} questions about {chr(97 + i % 26)}. " for i in range(60)]


def write_text(folder: Path, sentences: int = 60) -> Path:
    """About 12 tokens a sentence."""
    path = folder / f"text-{sentences}.txt"
    path.write_text("".join(_SENTENCES[:sentences]), encoding="utf-8")
    return path


def write_folder_and_gguf(architecture: str, folder: Path, llama_source: Path) -> tuple[Path, Path]:
    """The folder and the GGUF of a random model, made once."""
    model, gguf = folder / architecture, folder / f"{architecture}.gguf"
    if not gguf.exists():
        write_model(architecture, model)
        convert_to_gguf(read_hf_folder(model, allow_requantize=False), gguf, llama_source, 2, Progress())
    return model, gguf


def matrices(source: Source) -> list[TensorInfo]:
    """All tensors that a conversion would quantise."""
    return [t for t in source.tensors if keep_reason(t, source.architecture) is None]
