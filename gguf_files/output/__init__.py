"""GGUF files that are written: one, or a model in splits."""

from gguf_files.output.gguf_output import GgufOutput
from gguf_files.output.splits import SplitLimit

__all__ = ["GgufOutput", "SplitLimit"]
