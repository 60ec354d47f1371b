"""What a planned file will take: on disk, and in memory with the cache of keys and values."""

from collections.abc import Sequence
from dataclasses import dataclass

from converter.gguf_header import MetadataEntry, align
from converter.plan.plan import Plan
from converter.source import Source

_KV_BYTES = 2
"""Of an element of the cache, F16 by default."""
_UNLIKE = ("attention.kv_lora_rank", "ssm.state_size", "wkv.head_size", "shortconv.l_cache")
"""Keys of architectures whose cache is another one than keys and values of all heads."""


@dataclass(frozen=True)
class PlannedFile:
    """A plan and the model that it is for."""

    plan: Plan
    file_bytes: int
    """All tensors with padding, and the header of the source: within a few kB of the file."""
    kv_bytes_per_token: int | None
    """In F16; None where the architecture keeps something else, or does not say."""
    trained_context: int | None

    @classmethod
    def of(cls, plan: Plan, model: Source) -> "PlannedFile":
        tensors = sum(align(t.nbytes, model.alignment) for t in plan.tensors)
        header = sum(len(entry.raw) for entry in model.metadata)
        context = _number(model.metadata, f"{model.architecture}.context_length")
        return cls(plan, tensors + header, kv_bytes_per_token(model.metadata, model.architecture), context)

    def memory(self, context: int) -> int | None:
        """Bytes of the weights and of the cache for so many tokens; buffers for computing come on top."""
        return None if self.kv_bytes_per_token is None else self.plan.nbytes + context * self.kv_bytes_per_token


def kv_bytes_per_token(metadata: Sequence[MetadataEntry], architecture: str) -> int | None:
    """Keys and values of all layers, in F16. Layers with a window of attention need less than this says."""

    def number(key: str) -> int | None:
        return _number(metadata, f"{architecture}.{key}")

    if any(number(key) is not None for key in _UNLIKE):
        return None
    blocks, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    if not blocks or not heads or not width:
        return None
    if any(entry.key == f"{architecture}.attention.head_count_kv" and entry.value is None for entry in metadata):
        return None  # a list: another number for each layer
    kv_heads = number("attention.head_count_kv") or heads
    key, value = (number(f"attention.{part}_length") or width // heads for part in ("key", "value"))
    return blocks * kv_heads * (key + value) * _KV_BYTES


def _number(metadata: Sequence[MetadataEntry], key: str) -> int | None:
    value = next((entry.value for entry in metadata if entry.key == key), None)
    return value if isinstance(value, int) else None
