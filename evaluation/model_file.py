"""What the head of a GGUF file tells of a model: its size and its vocabulary. No weights are read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from evaluation.errors import EvaluationError
from gguf_files.names import BLOCK
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo
from gguf_files.vocabulary import TOKENS, token_count


@dataclass(frozen=True)
class ModelFile:
    """A GGUF file, or all its splits together."""

    path: Path
    bytes: int
    bits_per_weight: float
    """Over all tensors, metadata aside."""
    block_bits_per_weight: float
    """Over the tensors of the blocks (`blk.N.…`) alone, without embeddings and output; NaN if there are none."""
    has_eoq_types: bool
    vocabulary: int
    """Number of tokens."""
    vocabulary_digest: str
    """SHA-256 of the tokens' texts."""


def describe(path: Path, source: Source) -> ModelFile:
    """What the head of an open file tells. Raises EvaluationError for one without a vocabulary."""
    tokens = next((entry for entry in source.metadata if entry.key == TOKENS), None)
    if tokens is None:
        raise EvaluationError(f"{path} has no vocabulary ({TOKENS}), so no text can be evaluated with it")
    return ModelFile(
        path=path,
        bytes=source.nbytes,
        bits_per_weight=_bits_per_weight(source.tensors),
        block_bits_per_weight=_bits_per_weight([t for t in source.tensors if BLOCK.match(t.name)]),
        has_eoq_types=any(eoq_type(t.type) for t in source.tensors),
        vocabulary=token_count(source.metadata) or 0,
        vocabulary_digest=hashlib.sha256(tokens.raw).hexdigest(),
    )


def check_same_vocabulary(base: ModelFile, model: ModelFile) -> None:
    """Raise EvaluationError unless both have the same tokens: else their distributions cannot be compared."""
    if model.vocabulary_digest != base.vocabulary_digest:
        counts = f"{model.vocabulary:,} tokens against {base.vocabulary:,}"
        what = counts if model.vocabulary != base.vocabulary else f"as many tokens ({model.vocabulary:,}), other texts"
        raise EvaluationError(
            f"{model.path} has another vocabulary than the base {base.path} ({what}); "
            "name a base that the file was made from"
        )


def _bits_per_weight(tensors: Sequence[TensorInfo]) -> float:
    weights = sum(t.weights for t in tensors)
    return 8 * sum(t.nbytes for t in tensors) / weights if weights else float("nan")
