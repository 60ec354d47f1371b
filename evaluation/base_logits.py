"""The base's log-probabilities of every token, which llama-perplexity stores in a file and compares models with.

The file begins with `_logits_`, int32 context, int32 vocabulary, int32 chunks and the tokens; then come, for each token
that is scored, the second half of every window but its last, 16 bits a word of the vocabulary and 8 bytes more.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evaluation.errors import EvaluationError, OutputError
from evaluation.model_file import ModelFile
from evaluation.perplexity_output import Estimate, error_lines, parse_chunk_count, parse_chunks_done, parse_perplexity
from evaluation.perplexity_program import NAME, PerplexityProgram
from evaluation.progress import EvaluationProgress
from input_files.structured import read_json
from output_files.claim import claimed, keep
from output_files.leftovers import scratch_folder
from output_files.whole import explained, write_whole

_MAGIC = b"_logits_"
MIN_SCORED = 100
"""llama-perplexity gives no statistics on fewer tokens."""
_SPARE = 64 << 20
"""Bytes to leave free on the disk."""


@dataclass(frozen=True)
class BaseLogits:
    """What the base made of the text."""

    file: Path
    perplexity: Estimate
    chunks: int
    scored: int
    """Tokens whose distributions are compared."""


def scored_tokens(context: int, chunks: int) -> int:
    """Tokens that count: the second half of each window but its last token."""
    return chunks * (context - 1 - context // 2)


def logits_bytes(context: int, chunks: int, vocabulary: int) -> int:
    """Size of the file."""
    per_token = 2 * (2 * ((vocabulary + 1) // 2) + 4)
    return len(_MAGIC) + 3 * 4 + 4 * chunks * context + scored_tokens(context, chunks) * per_token


@contextmanager
def base_logits(
    base: ModelFile,
    text: Path,
    chunks: int | None,
    program: PerplexityProgram,
    *,
    kept: Path | None,
    work_dir: Path | None,
    progress: EvaluationProgress,
    inputs: Sequence[Path] = (),
) -> Iterator[BaseLogits]:
    """Run the base over the text. The file lies in `work_dir` and is removed at the end, unless it is to be `kept`.

    A kept file is used again if base, text, options and program are the same: what it belongs to stands in a file of
    the same name with `.json` added; neither is written over one of the `inputs`. Raises EvaluationError, TargetError.
    """
    if kept is not None:
        yield _kept(base, text, chunks, program, kept, progress, inputs)
        return
    if work_dir is not None and not work_dir.is_dir():
        raise EvaluationError(f"the work folder {work_dir} does not exist")
    with scratch_folder(work_dir or Path(tempfile.gettempdir())) as folder:
        yield _compute(base, text, chunks, program, folder / "base.logits", progress)


def kept_files(kept: Path | None) -> tuple[Path, ...]:
    """The file in which log-probabilities are to be kept, and that which tells what they belong to."""
    return () if kept is None else (kept, kept.with_name(kept.name + ".json"))


def _compute(
    base: ModelFile,
    text: Path,
    chunks: int | None,
    program: PerplexityProgram,
    file: Path,
    progress: EvaluationProgress,
) -> BaseLogits:
    announced = False
    progress.base_run(base.path)

    def heard(output: str) -> None:
        nonlocal announced
        total = parse_chunk_count(output)
        if total is None:
            return
        if not announced:
            announced = True
            _check_length(program.context, total)
            size = logits_bytes(program.context, total, base.vocabulary)
            _check_room(file.parent, size)
            progress.base_logits(file, size)
        progress.chunks(parse_chunks_done(output), total)

    limit = [] if chunks is None else ["--chunks", str(chunks)]
    output = program.run(base.path, ["-f", str(text), *limit, "--save-all-logits", str(file)], heard)
    try:
        perplexity = parse_perplexity(output)
    except OutputError as error:
        raise OutputError(f"{base.path} could not be evaluated: {error}; it says: {error_lines(output)}") from None
    total = parse_chunk_count(output) or 0
    bytes_written = file.stat().st_size if file.exists() else 0
    if bytes_written != (expected := logits_bytes(program.context, total, base.vocabulary)):
        raise EvaluationError(
            f"{NAME} left {bytes_written:,} bytes of log-probabilities in {file.parent} instead of {expected:,}; "
            "is the disk full? Name another folder with --work-dir"
        )
    return BaseLogits(file, perplexity, total, scored_tokens(program.context, total))


def _check_length(context: int, chunks: int) -> None:
    if (scored := scored_tokens(context, chunks)) < MIN_SCORED:
        raise EvaluationError(
            f"{chunks} chunks of {context} tokens score {scored} tokens, and statistics need at least {MIN_SCORED}; "
            "take more chunks, a longer context or a longer text"
        )


def _check_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + _SPARE:
        raise EvaluationError(
            f"the base's log-probabilities need {size / 2**20:,.0f} MiB, and {folder} has {free / 2**20:,.0f} MiB; "
            "name a roomier folder with --work-dir, or fewer chunks with --chunks"
        )


def _kept(
    base: ModelFile,
    text: Path,
    chunks: int | None,
    program: PerplexityProgram,
    file: Path,
    progress: EvaluationProgress,
    inputs: Sequence[Path],
) -> BaseLogits:
    _, note = kept_files(file)
    belongs_to = {
        "base": _identity(base.path),
        "vocabulary": base.vocabulary_digest,
        "text": digest_of(text),
        "context": program.context,
        "chunks": chunks,
        "gpu_layers": program.gpu_layers,
        "program": _identity(program.path),
    }
    if (known := _known(file, note, belongs_to)) is not None:
        return known
    if file.exists() and not _is_ours(file):
        raise EvaluationError(f"{file} holds no log-probabilities; it is not overwritten, name another file for them")
    with claimed((file, note), inputs), scratch_folder(file.parent) as folder:
        note.unlink(missing_ok=True)
        computed = _compute(base, text, chunks, program, folder / file.name, progress)
        with explained(f"cannot write {file}"):
            computed.file.replace(file)
        recorded = {
            "belongs_to": belongs_to,
            "bytes": file.stat().st_size,
            "perplexity": asdict(computed.perplexity),
            "chunks": computed.chunks,
            "scored": computed.scored,
        }
        write_whole(note, json.dumps(recorded, indent=2) + "\n")
    keep(f"the base's log-probabilities are kept in {file}")
    return BaseLogits(file, computed.perplexity, computed.chunks, computed.scored)


def digest_of(text: Path) -> str:
    """SHA-256 of a text, in hex. Raises EvaluationError."""
    try:
        return hashlib.sha256(text.read_bytes()).hexdigest()
    except OSError as e:
        raise EvaluationError(f"the text {text} cannot be read: {e.strerror}") from None


def _known(file: Path, note: Path, belongs_to: dict[str, Any]) -> BaseLogits | None:
    """What the note says of a file, if that is whole and belongs to the task; None too where the note is odd."""
    try:
        known = read_json(note, EvaluationError)
        if file.stat().st_size != known["bytes"] or known["belongs_to"] != belongs_to:
            return None
        perplexity = Estimate(float(known["perplexity"]["value"]), float(known["perplexity"]["error"]))
        chunks, scored = int(known["chunks"]), int(known["scored"])
    except (OSError, EvaluationError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return BaseLogits(file, perplexity, chunks, scored) if perplexity.value > 0 and min(chunks, scored) > 0 else None


def _is_ours(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        return opened.read(len(_MAGIC)) == _MAGIC


def _identity(file: Path) -> list[str | int]:
    """Enough to notice that a file is another one, without reading it."""
    status = file.stat()
    return [file.name, status.st_size, status.st_mtime_ns]
