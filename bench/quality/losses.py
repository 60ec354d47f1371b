"""What a file loses against the F16 model that it was made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.quality.texts import Examiner


@dataclass(frozen=True)
class Loss:
    """One file on one text, beside F16."""

    perplexity: float
    base: float
    """Perplexity of F16."""
    kld: float
    kld_error: float

    @property
    def delta(self) -> float:
        return self.perplexity - self.base


def losses_of(model: Path, examiner: Examiner, texts: Mapping[str, Path]) -> dict[str, Loss]:
    """The file's loss on each text. Raises EoqError."""
    losses = {}
    for name, text in texts.items():
        evaluation = examiner.measure(model, name, text)
        (measured,) = evaluation["models"]
        base = evaluation["base"]["perplexity"]["value"]
        kld = measured["kld"]
        losses[name] = Loss(base * measured["perplexity_ratio"]["value"], base, kld["value"], kld["error"])
    return losses
