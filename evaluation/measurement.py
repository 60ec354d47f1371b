"""The results of an evaluation."""

from dataclasses import dataclass
from pathlib import Path

from evaluation.model_file import ModelFile
from evaluation.perplexity_output import Divergence, Estimate


@dataclass(frozen=True)
class Measurement:
    """The results of one model."""

    model: ModelFile
    divergence: Divergence
    perplexity_ratio: Estimate
    """Perplexity over that of the base's own run; the error comes from the pairs of tokens, so it is a small one."""
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The results of all models on one text, in the order in which they were named."""

    base: ModelFile
    base_perplexity: Estimate
    text: Path
    text_sha256: str
    context: int
    chunks: int
    scored: int
    """Tokens whose distributions were compared."""
    measurements: tuple[Measurement, ...]
