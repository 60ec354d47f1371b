"""The arrays of a model's vocabulary: of what type llama.cpp takes them (src/llama-vocab.cpp)."""

from collections.abc import Sequence

from gguf import GGUFValueType

from gguf_files.errors import SourceError
from gguf_files.header import MetadataEntry

TOKENS = "tokenizer.ggml.tokens"
_ELEMENTS = {
    TOKENS: (GGUFValueType.STRING,),
    "tokenizer.ggml.scores": (GGUFValueType.FLOAT32, GGUFValueType.INT32),
    "tokenizer.ggml.token_type": (GGUFValueType.INT32,),
    "tokenizer.ggml.merges": (GGUFValueType.STRING,),
}
_ONE_FOR_EACH_TOKEN = ("tokenizer.ggml.scores", "tokenizer.ggml.token_type")


def token_count(metadata: Sequence[MetadataEntry]) -> int | None:
    """How many tokens there are; None without a vocabulary."""
    entry = next((entry for entry in metadata if entry.key == TOKENS), None)
    return None if entry is None or entry.array is None else entry.array[1]


def check_vocabulary(metadata: Sequence[MetadataEntry]) -> None:
    """Raises SourceError, whose message goes on after the file's name, for arrays that llama.cpp does not load."""
    tokens = token_count(metadata) or 0
    for entry in metadata:
        if (elements := _ELEMENTS.get(entry.key)) is None:
            continue
        if entry.array is None or entry.array[0] not in elements:
            names = " or ".join(e.name.lower() for e in elements)
            raise SourceError(f"{entry.key} is not an array of {names}; make the file anew")
        if entry.key in _ONE_FOR_EACH_TOKEN and entry.array[1] < tokens:
            raise SourceError(f"{entry.key} has {entry.array[1]} elements for {tokens} tokens; make the file anew")
