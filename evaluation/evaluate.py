"""Measure how far models are from the one they were made of, on packed files in llama.cpp."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.base_logits import BaseLogits, base_logits, digest_of, kept_files
from evaluation.errors import EvaluationError, OutputError
from evaluation.measurement import Evaluation, Measurement
from evaluation.model_file import ModelFile, check_same_vocabulary, describe
from evaluation.perplexity_output import (
    Estimate,
    error_lines,
    parse_chunk_count,
    parse_chunks_done,
    parse_divergence,
)
from evaluation.perplexity_program import NAME, PerplexityProgram
from evaluation.progress import EvaluationProgress
from gguf_files.source import open_gguf
from gguf_files.unchanged import file_states, unchanged
from input_files.ordinary import check_ordinary
from llama_programs.find import find_program
from output_files.target import check_not_input
from terminal.cores import available_cores

MIN_CONTEXT = 16
_MOST = 2**31 - 1
"""Of a number on llama.cpp's command lines; of larger ones its programs say nothing but how to get help."""


@dataclass(frozen=True)
class EvaluationOptions:
    """Options of `evaluate`. Raises EvaluationError for values that mean nothing."""

    context: int = 512
    """Tokens a window; the second half of each is scored."""
    chunks: int | None = None
    """Windows at most; None for the whole text."""
    threads: int = field(default_factory=available_cores)
    gpu_layers: int | None = None
    """Layers on the GPU; None leaves it to llama.cpp."""
    llama_bin: Path | None = None
    """Folder of llama-perplexity; None for what tools/setup.sh built."""
    work_dir: Path | None = None
    """Where the base's log-probabilities lie meanwhile; None for the system's temporary folder."""
    base_logits: Path | None = None
    """A file for them that stays and is used again when base, text and options are the same."""

    def __post_init__(self) -> None:
        for name, value, least in (
            ("context", self.context, MIN_CONTEXT),
            ("number of chunks", self.chunks, 1),
            ("number of threads", self.threads, 1),
            ("number of GPU layers", self.gpu_layers, 0),
        ):
            if value is not None and value < least:
                raise EvaluationError(f"the {name} must be at least {least}, not {value}")
            if value is not None and value > _MOST:
                raise EvaluationError(f"the {name} must be at most {_MOST}, not {value}")


def evaluate(
    base: Path,
    models: Sequence[Path],
    text: Path,
    options: EvaluationOptions | None = None,
    progress: EvaluationProgress | None = None,
    outputs: Sequence[Path] = (),
) -> Evaluation:
    """Compare GGUF files with the `base` that they were made from, on a text, by llama-perplexity.

    All that can be known beforehand is checked first, also that none of the `outputs`, which the caller writes
    afterwards, is an input. Raises EoqError; nothing temporary is left behind.
    """
    options = options or EvaluationOptions()
    progress = progress or EvaluationProgress()
    if check_ordinary(text, EvaluationError, "the text") == 0:
        raise EvaluationError(f"the text {text} is empty; give one with words in it")
    text_digest = digest_of(text)
    opened = [open_gguf(path) for path in (base, *models)]
    read = [text, *(path for source in opened for path in source.paths)]
    for output in (*outputs, *kept_files(options.base_logits)):
        check_not_input(output, read)
    base_file, *files = (describe(path, source) for path, source in zip((base, *models), opened, strict=True))
    for file in files:
        check_same_vocabulary(base_file, file)
    path = find_program(NAME, options.llama_bin)
    program = PerplexityProgram(path, options.context, options.threads, options.gpu_layers)
    with (
        unchanged(file_states(read)),
        base_logits(
            base_file,
            text,
            options.chunks,
            program,
            kept=options.base_logits,
            work_dir=options.work_dir,
            progress=progress,
            inputs=read,
        ) as logits,
    ):
        measurements = []
        for number, file in enumerate(files, 1):
            progress.model_run(file.path, number, len(files))
            measurements.append(_measure(file, logits, program, progress))
            progress.measured(measurements[-1])
        return Evaluation(
            base=base_file,
            base_perplexity=logits.perplexity,
            text=text,
            text_sha256=text_digest,
            context=options.context,
            chunks=logits.chunks,
            scored=logits.scored,
            measurements=tuple(measurements),
        )


def _measure(
    model: ModelFile, logits: BaseLogits, program: PerplexityProgram, progress: EvaluationProgress
) -> Measurement:
    start = time.monotonic()

    def heard(output: str) -> None:
        if parse_chunk_count(output) is not None:
            progress.chunks(parse_chunks_done(output), logits.chunks)

    output = program.run(model.path, ["--kl-divergence", "--kl-divergence-base", str(logits.file)], heard)
    try:
        divergence = parse_divergence(output)
    except OutputError as error:
        raise OutputError(f"{model.path} could not be evaluated: {error}; it says: {error_lines(output)}") from None
    ratio = divergence.perplexity.value / logits.perplexity.value
    relative = divergence.stored_ratio.error / divergence.stored_ratio.value
    return Measurement(model, divergence, Estimate(ratio, ratio * relative), time.monotonic() - start)
