"""From the names of a transformers model to GGUF tensor names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import gguf

from converter.errors import CalibrationError
from gguf_files.names import TOKEN_EMBEDDINGS
from gguf_files.source import Source

_EXPERT = re.compile(r"\.experts\.(\d+)\.")


@dataclass(frozen=True)
class TensorPart:
    """A GGUF tensor, or one expert's matrix of it."""

    tensor: str
    expert: int | None = None


class GgufNames:
    """gguf-py's table of names for one model."""

    def __init__(self, source: Source) -> None:
        """Raises CalibrationError for an architecture that gguf-py does not know."""
        architecture = next((a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == source.architecture), None)
        blocks = source.value("{arch}.block_count")
        if architecture is None or not isinstance(blocks, int):
            raise CalibrationError(
                f"gguf-py has no tensor names for {source.architecture} models, so this one cannot be calibrated; "
                "pass --imatrix FILE made by llama-imatrix, or --rtn to do without"
            )
        self._map = gguf.get_tensor_name_map(architecture, blocks)
        self._tensors = {t.name for t in source.tensors}

    def find(self, name: str) -> TensorPart | None:
        """The tensor behind a parameter such as `model.layers.0.self_attn.q_proj.weight`, or None."""
        stem, _, suffix = name.rpartition(".")
        expert = _EXPERT.search(stem)
        if expert:
            stem = _EXPERT.sub(".experts.", stem)
        for spelling in _spellings(stem):
            found = self._map.get_name(spelling)
            if found is not None and f"{found}.{suffix}" in self._tensors:
                return TensorPart(f"{found}.{suffix}", int(expert[1]) if expert else None)
        if stem.endswith("lm_head") and suffix == "weight":
            return TensorPart(TOKEN_EMBEDDINGS)  # tied: the embeddings are the output as well
        return None


def _spellings(stem: str) -> Iterator[str]:
    """The name as it is, and as it would be in a model of text alone or without its outermost wrapping."""
    yield stem
    for prefix in ("model.language_model.", "language_model.model.", "language_model.", "model.text_model."):
        if stem.startswith(prefix):
            yield "model." + stem.removeprefix(prefix)
    yield "model." + stem
    head, _, rest = stem.partition(".")
    if head in ("model", "bert", "roberta", "transformer", "encoder"):
        yield rest
