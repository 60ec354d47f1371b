"""The texts that benchmarks measure divergence on, and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation import EvaluationOptions, evaluate
from evaluation.display import EvaluationDisplay
from evaluation.report import as_json
from material.kinds import KINDS
from material.texts import code_text

TEXTS: dict[str, Callable[[], Path]] = {**KINDS, "code": code_text}
DEFAULT_TEXTS = {name: TEXTS[name] for name in ("news", "code")}
"""What benchmarks measure on unless told otherwise."""
ALL_KINDS = "all"
"""Names all of KINDS at once; not `code`, which mixes languages that have kinds of their own."""


def chosen_texts(names: Sequence[str]) -> dict[str, Callable[[], Path]]:
    """The texts that are named, each once, with ALL_KINDS for all kinds."""
    wanted = [text for name in names for text in (KINDS if name == ALL_KINDS else (name,))]
    return {name: TEXTS[name] for name in dict.fromkeys(wanted)}


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
