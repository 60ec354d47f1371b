"""What a planned file will take: on disk, and in memory with the cache of keys and values."""

from dataclasses import dataclass
from pathlib import Path

from converter.plan.plan import Plan
from gguf_files.header import align
from gguf_files.names import TOKEN_EMBEDDINGS
from gguf_files.source import Source

_KV_BYTES = 2
"""Bytes of an element of the cache, F16 by default."""
_BATCH = 512
"""Tokens that llama.cpp computes at once by default."""
_COPIES = 4
"""Copies of what goes from one device to the next, so that several batches are under way."""
_POSITIONS = 32
"""Bytes of a token's position and its places in the cache."""
_TENSOR_HEAD = 28
"""Bytes of a tensor's entry in the header, beside its name and shape, with its checksum."""
_OWN_METADATA = 2048
"""Bytes of the entries that a conversion adds: of all codebooks 950, and of texts seldom half of the rest."""
_UNLIKE = ("attention.kv_lora_rank", "ssm.state_size", "wkv.head_size", "shortconv.l_cache")
"""Keys of architectures whose cache is another one than keys and values of all heads."""


@dataclass(frozen=True)
class PlannedFile:
    """A plan and the model that it is for."""

    plan: Plan
    file_bytes: int
    """All tensors with padding, and the header at its largest: at most a few kB more than the file has."""
    compute_bytes: int
    """An estimate of llama.cpp's buffers for a batch of 512 tokens with flash attention."""
    kv_bytes_per_token: int | None
    """In F16; None where the architecture keeps something else, or does not say."""
    trained_context: int | None
    projector: Path | None = None
    """The file for images and sound that is written beside."""

    @classmethod
    def of(cls, plan: Plan, source: Source) -> "PlannedFile":
        tensors = sum(align(t.nbytes, source.alignment) for t in plan.tensors)
        context = source.number("{arch}.context_length")
        per_token = kv_bytes_per_token(source)
        return cls(plan, tensors + header_bytes(source), compute_bytes(source), per_token, context)

    def memory(self, context: int) -> int | None:
        """Bytes of the weights, of the cache for so many tokens, and of the buffers."""
        if self.kv_bytes_per_token is None:
            return None
        return self.plan.nbytes + context * self.kv_bytes_per_token + self.compute_bytes


def header_bytes(source: Source) -> int:
    """Most bytes of an output beside its tensors: the source's metadata, the converter's, and padding."""
    tensors = sum(_TENSOR_HEAD + len(t.name.encode()) + 8 * len(t.shape) + source.alignment - 1 for t in source.tensors)
    return sum(len(entry.raw) for entry in source.metadata) + _OWN_METADATA + tensors


def compute_bytes(source: Source) -> int:
    """What llama.cpp reserves for a batch: logits of all its tokens, or the widest layer, in float32.

    For Qwen2.5 0.5B and SmolLM2 135M it is the size that llama.cpp prints, to the byte.
    """
    width = source.number("{arch}.embedding_length") or 0
    vocabulary = next((t.rows for t in source.tensors if t.name == TOKEN_EMBEDDINGS), 0)
    return max(_BATCH * 4 * (vocabulary + 2 * width), layer_compute_bytes(source))


def layer_compute_bytes(source: Source) -> int:
    """Bytes that llama.cpp reserves for a batch on a machine that computes blocks but not the output."""
    width = source.number("{arch}.embedding_length") or 0
    hidden = source.number("{arch}.feed_forward_length") or 4 * width
    return _BATCH * 4 * (3 * hidden + 3 * width)


def passing_bytes(source: Source, context: int) -> int:
    """What every device of several has besides, for what it passes on: a batch's inputs and its mask of attention.

    With the buffers above it is at least what llama.cpp prints for SmolLM2 135M on two machines.
    """
    width = source.number("{arch}.embedding_length") or 0
    return _COPIES * _BATCH * (4 * width + 2 * context + _POSITIONS)


def lookup_bytes(source: Source, context: int) -> int:
    """`passing_bytes` of the machine that looks up embeddings, and the embeddings of a batch."""
    width = source.number("{arch}.embedding_length") or 0
    return passing_bytes(source, context) + _BATCH * 4 * width


def kv_bytes_per_token(source: Source) -> int | None:
    """Keys and values of all layers, in F16. Layers with a window of attention need less than this says."""

    def number(key: str) -> int | None:
        return source.number("{arch}." + key)

    if any(number(key) is not None for key in _UNLIKE):
        return None
    blocks, heads, width = number("block_count"), number("attention.head_count"), number("embedding_length")
    if not blocks or not heads or not width:
        return None
    lists = {entry.key for entry in source.metadata if entry.value is None}
    if f"{source.architecture}.attention.head_count_kv" in lists:
        return None  # a list: another number for each layer
    kv_heads = number("attention.head_count_kv") or heads
    key, value = (number(f"attention.{part}_length") or width // heads for part in ("key", "value"))
    return blocks * kv_heads * (key + value) * _KV_BYTES
