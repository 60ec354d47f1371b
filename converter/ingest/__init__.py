"""From what a user names to an open GGUF: a file, a Hugging Face folder made into one, or a model of the hub."""

from converter.ingest.hub import HubModel, HubRevision, hub_revision, local_path, named_model
from converter.ingest.open_model import model_files, open_model, source_files

__all__ = [
    "HubModel",
    "HubRevision",
    "hub_revision",
    "local_path",
    "model_files",
    "named_model",
    "open_model",
    "source_files",
]
