"""Models of the Hugging Face Hub: their ids, their files, and the folder of the hub's cache that holds them."""

from converter.ingest.hub.fetch import fetch_config, fetch_model, local_path
from converter.ingest.hub.names import HubModel, HubRevision, hub_revision, model_name, named_model

__all__ = [
    "HubModel",
    "HubRevision",
    "fetch_config",
    "fetch_model",
    "hub_revision",
    "local_path",
    "model_name",
    "named_model",
]
