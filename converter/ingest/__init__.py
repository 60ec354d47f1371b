"""From what a user names to an open GGUF: a GGUF file, or a Hugging Face folder made into one."""

from converter.ingest.open_model import model_files, open_model, source_files

__all__ = ["model_files", "open_model", "source_files"]
