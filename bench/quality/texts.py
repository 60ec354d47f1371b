"""The texts that benchmarks measure divergence on, and how."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import EvaluationOptions, evaluate
from evaluation.display import EvaluationDisplay
from evaluation.report import as_json
from material.texts import code_text, evaluation_text

TEXTS: dict[str, Callable[[], Path]] = {"news": evaluation_text, "code": code_text}


@dataclass(frozen=True)
class Examiner:
    """Measures files against the F16 model that they were made from."""

    source: Path
    """The F16 GGUF."""
    folder: Path
    """Where its log-probabilities are kept, by text."""
    programs: Path
    chunks: int | None
    """Windows of 512 tokens of each text; None: the whole text."""
    threads: int

    def measure(self, model: Path, name: str, text: Path) -> dict[str, Any]:
        """The evaluation of one file on one text, as eval_eoq.py --json has it. Raises EoqError."""
        options = EvaluationOptions(
            chunks=self.chunks,
            threads=self.threads,
            llama_bin=self.programs,
            base_logits=self.folder / f"{name}.logits",
        )
        with EvaluationDisplay() as display:
            return as_json(evaluate(self.source, [model], text, options, display))
