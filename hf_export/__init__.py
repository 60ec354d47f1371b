"""From a GGUF of EOQ types to a folder of Hugging Face's transformers with the same codes, and back."""

from hf_export.export import Exported, ExportOptions, export
from hf_export.restore import restore

__all__ = ["ExportOptions", "Exported", "export", "restore"]
