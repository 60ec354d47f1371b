"""Which files of a repository on the hub make the model: no pickles, no code, no second copy of the weights."""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from converter.errors import HubError
from converter.ingest.hf_folder import MISTRAL, TRANSFORMERS, Layout
from converter.ingest.hub.names import HubModel
from converter.ingest.safetensors_folder import INDEX

_SMALL = re.compile(
    r"[^/]+\.(?:json|model(?:\.v\w+)?|txt|jinja|tiktoken)|README\.md|additional_chat_templates/[^/]+\.jinja"
    r"|\d+_\w+/(?:config\.json|model\.safetensors)"
)
"""Configuration, tokenizer, chat templates, index; the card, whose metadata GGUF files keep; pooling and dense layers
of sentence-transformers."""
_ADAPTER = "adapter_config.json"
_PICKLE = re.compile(r"[^/]+\.(?:bin|pt|pth|ckpt)")


@dataclass(frozen=True)
class HubFile:
    """A file of a repository."""

    name: str
    size: int
    """In bytes."""
    blob: str
    """Its name in the cache, below `blobs`."""


def small_files(files: Iterable[str]) -> list[str]:
    """All but the weights."""
    return sorted(name for name in files if _SMALL.fullmatch(name))


def weight_files(
    model: HubModel, files: Collection[str], index: Mapping[str, str], layout: Layout = TRANSFORMERS
) -> list[str]:
    """The files with weights: those of the `index`, tensor to file, where there is one. Raises HubError."""
    if index:
        shards = sorted(set(index.values()))
        missing = [name for name in shards if name not in files]
        if missing:
            raise HubError(f"{model.id} is incomplete: {', '.join(missing)} of {INDEX} is missing on the hub")
        return shards
    whole = f"{layout.weights}.safetensors"
    shard = re.compile(rf"{layout.weights}-\d+-of-\d+\.safetensors")
    return [whole] if whole in files else sorted(name for name in files if shard.fullmatch(name))


def check_can_be_read(
    model: HubModel, files: Collection[str], bases: Iterable[str] = (), layout: Layout = TRANSFORMERS
) -> None:
    """Refuse a repository without safetensors, saying what it has. `bases` are the models it says it is made of.

    Raises HubError. An adapter passes: its folder tells more.
    """
    if _ADAPTER in files:
        return
    if (INDEX in files and layout is TRANSFORMERS) or weight_files(model, files, {}, layout):
        if layout.config not in files:
            raise HubError(f"{model.id} is no Hugging Face model: it has no {layout.config}")
        return
    if layout is MISTRAL:
        raise HubError(f"{model.id} has no weights in Mistral's format, {layout.weights}.safetensors")
    base = next(iter(bases), "")
    if any(name.endswith(".gguf") for name in files):
        original = f"the original model{f', {base}' if base else ''}"
        raise HubError(
            f"{model.id} has GGUF files and no safetensors; convert {original}, or fetch a GGUF in F32, F16 or BF16 "
            f"with `hf download {model.id} FILE`, and give the path that it prints"
        )
    if any(_PICKLE.fullmatch(name) for name in files):
        raise HubError(
            f"{model.id} has weights in PyTorch's pickled format alone, which can bring code along and is not "
            f"downloaded; look for safetensors among its revisions (--revision), or, if you trust it, run "
            f"`hf download {model.id}` and give the folder that it prints"
        )
    raise HubError(f"{model.id} is no model that can be converted: it has no model*.safetensors")
