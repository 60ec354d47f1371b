"""Read what llama-perplexity prints: the estimate of a plain run, and the statistics of one with --kl-divergence."""

import math
import re
from dataclasses import dataclass

from evaluation.errors import OutputError

_NUMBER = r"([-+]?(?:nan|inf|[\d.]+(?:e[-+]?\d+)?))"
_PLUS_MINUS = r"\s*(?:±|\+/-)\s*"


@dataclass(frozen=True)
class Estimate:
    """A mean and its standard error; the error is NaN where llama-perplexity has none."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.4f}"


@dataclass(frozen=True)
class Divergence:
    """How a model's next-token distributions differ from the base's, over all tokens scored."""

    perplexity: Estimate
    stored_ratio: Estimate
    """Perplexity over the one that the base's stored log-probabilities give. They end 16 nats below the best, which
    makes the base look better than it is on tokens that it found very unlikely."""
    kld: Estimate
    """Mean Kullback-Leibler divergence from the base, in nats."""
    kld_median: float
    kld_99: float
    """99th percentile."""
    kld_999: float
    """99.9th percentile."""
    kld_max: float
    same_top: Estimate
    """Share of tokens whose most likely successor is that of the base, 0 to 1."""
    delta_p_rms: Estimate
    """Root mean square of the difference in the probability of the text's own next token, 0 to 1."""


def _find(label: str, output: str, value: str) -> re.Match[str]:
    words = r"\s+".join(map(re.escape, label.split()))
    match = re.search(rf"^\s*{words}\s*:\s*{value}", output, re.MULTILINE)
    if match is None:
        raise OutputError(f"llama-perplexity printed no {label}")
    return match


def _estimate(label: str, output: str, unit: float = 1.0) -> Estimate:
    value, error = map(float, _find(label, output, _NUMBER + _PLUS_MINUS + _NUMBER).groups())
    if not math.isfinite(value):
        raise OutputError(f"llama-perplexity printed {value} for {label}")
    return Estimate(round(unit * value, 8), round(unit * error, 8))


def _value(label: str, output: str) -> float:
    return float(_find(label, output, _NUMBER)[1])


def parse_perplexity(output: str) -> Estimate:
    """The final estimate of a run without --kl-divergence. Raises OutputError."""
    # what precedes it on its line may be the end of another message
    match = re.search(rf"Final estimate: PPL = {_NUMBER}{_PLUS_MINUS}{_NUMBER}", output)
    if match is None:
        raise OutputError("llama-perplexity printed no final estimate")
    value, error = map(float, match.groups())
    if not math.isfinite(value):
        raise OutputError(f"llama-perplexity printed a perplexity of {value}")
    return Estimate(value, error)


def parse_divergence(output: str) -> Divergence:
    """The statistics of a run with --kl-divergence. Raises OutputError for missing or non-finite ones."""
    return Divergence(
        perplexity=_estimate("Mean PPL(Q)", output),
        stored_ratio=_estimate("Mean PPL(Q)/PPL(base)", output),
        kld=_estimate("Mean KLD", output),
        kld_median=_value("Median KLD", output),
        kld_99=_value("99.0% KLD", output),
        kld_999=_value("99.9% KLD", output),
        kld_max=_value("Maximum KLD", output),
        same_top=_estimate("Same top p", output, unit=0.01),
        delta_p_rms=_estimate("RMS Δp", output, unit=0.01),
    )


def parse_chunk_count(output: str) -> int | None:
    """How many chunks the run says it will compute; None as long as it has not said so."""
    match = re.search(r"(?:calculating perplexity|computing) over (\d+) chunks", output)
    return int(match[1]) if match else None


def parse_chunks_done(output: str) -> int:
    """Number of the last chunk that is done, of either kind of run."""
    done = re.findall(r"\[(\d+)\]-?[\dni]|^ *(\d+) +\S+ ±", output, re.MULTILINE)
    return max((int(plain or divergence) for plain, divergence in done), default=0)


def error_lines(output: str, limit: int = 3) -> str:
    """What a failed program says is wrong: its first few different lines of level error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [error_line[1] for line in lines if (error_line := re.search(r"(?:^|\s)\d+[\d.]* E (.+)", line))]
    said += [line for line in lines if re.match(r"error\b|.*GGML_ASSERT|.*terminate called", line)]
    said = list(dict.fromkeys(said)) or lines[-1:]
    return "; ".join(said[:limit]) or "nothing"
