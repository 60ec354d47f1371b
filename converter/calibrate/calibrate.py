"""Calibration from end to end: model and texts in, a statistics file out. The work is llama-moments'."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.calibrate.texts import text_files
from converter.errors import CalibrationError
from converter.options import OWN_TEXT, CalibrationOptions, CalibrationText
from converter.statistics import Statistics, fingerprint, open_statistics
from converter.statistics.least_size import least_size
from gguf_files.finite import check_weights_finite
from gguf_files.source import Source
from gguf_files.unchanged import unchanged
from llama_programs.find import find_program
from llama_programs.run import ending, listen
from output_files.claim import keep
from output_files.target import check_not_input, check_space, resolve_target
from terminal.progress import Progress

_log = logging.getLogger("eoq")
PROGRAM = "llama-moments"
WAYS_OUT = "pass --imatrix FILE made by llama-imatrix, or --rtn to do without calibration"
_STEP = re.compile(r"^sequence (\d+)/(\d+),", re.MULTILINE)
_LAST = 4096
"""Characters of the output in which the last step stands: hours of it are not searched at each line."""
_ERROR = re.compile(r"^error: (.+)$", re.MULTILINE)


def calibrate(
    source: Source, target: Path, options: CalibrationOptions, threads: int, progress: Progress
) -> Statistics:
    """Measure the second moments of the inputs of a model's matrices and write them to `target`, replacing it when all
    is done. Raises CalibrationError, NoProgramError, TargetError, or NonFiniteWeightError for a model that cannot be
    calibrated for weights that are no numbers.
    """
    target = resolve_target(target)
    for companion in leftovers(target):
        check_not_input(companion, [*source.paths, *(text.path for text in options.texts)])
    matrices = ((t.name, t.row_length, t.matrices) for t in source.tensors if t.dimensions > 1)
    check_space((target.parent, least_size(matrices), f"the statistics file {target.name}"))
    program = find_program(PROGRAM, options.llama_bin)
    if not options.resume and (left := [path.name for path in leftovers(target) if path.exists()]):
        _log.warning("note: starting over removes what a killed run left in %s: %s", target.parent, ", ".join(left))
    progress.stage("loading the model for calibration", 0)
    with text_files(options) as texts, _leftovers_of(target), unchanged(source.states):
        command = [str(program), *_arguments(source, texts, target, options, threads)]
        listener = _Listener(progress, _sequence_length(source, options))
        status, said = listen(command, listener.heard)
        if status:
            errors = _ERROR.findall(said)
            reason = errors[-1] if errors else f"{PROGRAM} {ending(status)}"
            check_weights_finite(source)
            raise CalibrationError(f"{source.named} cannot be calibrated ({reason}); {WAYS_OUT}")
    return open_statistics(target)


def leftovers(target: Path) -> list[Path]:
    """What an interrupted run of llama-moments keeps beside its output, to go on from."""
    return [target.with_name(target.name + end) for end in (".part", ".checkpoint", ".checkpoint.part")]


@contextmanager
def _leftovers_of(target: Path) -> Iterator[None]:
    """Removes what is of no use to anyone: all of it, unless there is a checkpoint to go on from."""
    try:
        yield
    finally:
        part, checkpoint, unfinished = leftovers(target)
        unfinished.unlink(missing_ok=True)
        if not checkpoint.exists():
            part.unlink(missing_ok=True)


@contextmanager
def checkpoint_named(target: Path) -> Iterator[None]:
    """For a calibration to a file of the user's: if it breaks off, the tool's last words name its checkpoint."""
    try:
        yield
    finally:
        _, checkpoint, _ = leftovers(target)
        if checkpoint.exists():
            keep(f"{checkpoint} is kept for --resume")


def _arguments(
    source: Source, texts: Sequence[CalibrationText], target: Path, options: CalibrationOptions, threads: int
) -> Iterator[str]:
    length = _sequence_length(source, options)
    yield from ("-m", str(source.paths[0]), "-o", str(target), "--fingerprint", fingerprint(source))
    for text in texts:
        yield from ("--self",) if text.path == OWN_TEXT else ("-f", str(text.path))
        yield from ("--weight", str(text.weight))
    yield from ("--tokens", str(options.tokens), "-c", str(length), "-t", str(threads), "--process-output")
    yield from ("--memory", str(max(1, options.memory_limit // 10**6)), "-ngl", str(options.gpu_layers))
    if options.resume:
        yield "--resume"
    if options.all_experts:
        experts = source.number("{arch}.expert_count")
        if experts:
            yield from ("--override-kv", f"{source.architecture}.expert_used_count=int:{experts}")


def _sequence_length(source: Source, options: CalibrationOptions) -> int:
    """Tokens: no more than the model was made for."""
    longest = source.number("{arch}.context_length")
    return min(options.sequence_length, longest) if longest else options.sequence_length


class _Listener:
    """Tells how many tokens the program has run, from the lines that it prints."""

    def __init__(self, progress: Progress, sequence_length: int) -> None:
        self._progress = progress
        self._length = sequence_length
        self._total: int | None = None
        self._done = 0

    def heard(self, said: str) -> None:
        steps = _STEP.findall(said[-_LAST:])
        if not steps:
            return
        done, total = int(steps[-1][0]), int(steps[-1][1])
        if self._total is None:
            self._total = total
            self._progress.stage("calibrating", total * self._length)
            # how much of it this run has done, and since when, is not told: an earlier one may have begun
            self._progress.skip(done * self._length)
        else:
            self._progress.advance((done - self._done) * self._length)
        self._done = done
