"""An evaluation as a Markdown table and as JSON."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evaluation.measurement import Evaluation
from evaluation.model_file import ModelFile
from evaluation.perplexity_output import Estimate
from output_files.json_text import plain
from terminal.table import markdown_table

HEAD = (
    "model",
    "MB",
    "bpw",
    "bpw of blocks",
    "perplexity",
    "over base",
    "mean KLD",
    "median KLD",
    "99 % KLD",
    "max KLD",
    "same top token %",
)


def names(files: Sequence[Path]) -> list[str]:
    """Names of the files, whole paths where two files share a name."""
    counts = Counter(file.name for file in files)
    return [file.name if counts[file.name] == 1 else str(file) for file in files]


def table(evaluation: Evaluation) -> str:
    """Markdown: the base first, then the models as they were named. MB are 10^6 bytes, bpw bits a weight."""
    base = evaluation.base
    models = evaluation.measurements
    base_name, *model_names = names([base.path, *(m.model.path for m in models)])
    rows = [(base_name, *_sizes(base), _pair(evaluation.base_perplexity, 4), "1", *[""] * (len(HEAD) - 6))]
    for name, measurement in zip(model_names, models, strict=True):
        d = measurement.divergence
        rows.append(
            (
                name,
                *_sizes(measurement.model),
                _pair(d.perplexity, 4),
                _pair(measurement.perplexity_ratio, 4),
                _pair(d.kld, 5),
                f"{d.kld_median:.5f}",
                f"{d.kld_99:.4f}",
                f"{d.kld_max:.3f}",
                _pair(Estimate(100 * d.same_top.value, 100 * d.same_top.error), 2),
            )
        )
    return markdown_table(HEAD, rows)


def setting(evaluation: Evaluation) -> str:
    """One line: what was measured on what."""
    return (
        f"base {evaluation.base.path.name}, text {evaluation.text.name} (sha256 {evaluation.text_sha256[:12]}), "
        f"{evaluation.chunks} x {evaluation.context} tokens, {evaluation.scored} scored"
    )


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Values for `json.dumps`: paths as text, numbers that are not finite as null."""
    values = {
        "base": asdict(evaluation.base) | {"perplexity": asdict(evaluation.base_perplexity)},
        "text": {"path": evaluation.text, "sha256": evaluation.text_sha256},
        "context": evaluation.context,
        "chunks": evaluation.chunks,
        "scored_tokens": evaluation.scored,
        "models": [
            asdict(m.model)
            | asdict(m.divergence)
            | {"perplexity_ratio": asdict(m.perplexity_ratio), "seconds": round(m.seconds, 1)}
            for m in evaluation.measurements
        ],
    }
    cleaned = plain(values)
    assert isinstance(cleaned, dict)
    return cleaned


def _sizes(file: ModelFile) -> tuple[str, str, str]:
    return f"{file.bytes / 1e6:.1f}", _number(file.bits_per_weight, 3), _number(file.block_bits_per_weight, 3)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else ""


def _pair(estimate: Estimate, digits: int) -> str:
    value = f"{estimate.value:.{digits}f}"
    return f"{value} ± {estimate.error:.{digits}f}" if math.isfinite(estimate.error) else value
