"""From a GGUF of EOQ types to a folder of Hugging Face's transformers with the same codes."""

from hf_export.export import Exported, ExportOptions, export

__all__ = ["ExportOptions", "Exported", "export"]
