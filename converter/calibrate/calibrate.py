"""Calibration from end to end: model and text in, a statistics file out."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from converter.calibrate.accumulate import Accumulator
from converter.calibrate.experts import ExpertGate
from converter.calibrate.inputs import ModelInput
from converter.calibrate.load import WAYS_OUT, LoadedModel, load_model
from converter.calibrate.modules import Matches, match_modules
from converter.calibrate.sequences import Sequences, make_sequences
from converter.calibrate.stages import Stage, make_stages
from converter.errors import CalibrationError
from converter.options import CalibrationOptions
from converter.statistics import Statistics, fingerprint, open_statistics
from converter.statistics.moments_file import StatisticsHead, StatisticsWriter
from converter.statistics.triangle import Floats, pack
from converter.torch_settings import torch_settings
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from output_files.target import resolve_target
from terminal.progress import Progress


def calibrate(
    source: Source,
    model_path: Path,
    tensors: Sequence[TensorInfo],
    target: Path,
    options: CalibrationOptions,
    threads: int,
    progress: Progress,
) -> Statistics:
    """Measure the second moments of the inputs of `tensors` and write them to `target`, replacing it when all is done.

    `model_path` is what the user named, a Hugging Face folder or a GGUF, and `source` its GGUF. Tensors whose input
    cannot be measured are left out; the statistics' notes name them. Raises CalibrationError or TargetError.
    """
    target = resolve_target(target)
    with torch_settings(threads):
        progress.stage("loading the model for calibration", 0)
        loaded = load_model(model_path, source, options, threads)
        matches = match_modules(loaded.network, source, tensors, threads)
        if not matches.modules:
            raise CalibrationError(
                f"none of the tensors to quantise is known to transformers in {model_path}; {WAYS_OUT}"
            )
        sequences = make_sequences(loaded, options)
        _write(source, loaded, matches, sequences, target, options, progress)
    return open_statistics(target)


def _write(
    source: Source,
    loaded: LoadedModel,
    matches: Matches,
    sequences: Sequences,
    target: Path,
    options: CalibrationOptions,
    progress: Progress,
) -> None:
    gate = ExpertGate(loaded.network, options.all_experts)
    stages, perplexity = make_stages(loaded.network, matches.modules, sequences.tokens, gate, options.memory_limit)
    count, length = sequences.tokens.shape
    head = StatisticsHead(
        fingerprint(source),
        count * length,
        f"{sequences.text}, {count} sequences of {length} tokens, seed {options.seed}, {options.dtype}"
        + (", every token shown to all experts" if options.all_experts else "")
        + ("" if perplexity is None else f", perplexity {perplexity:.1f} on the first"),
        tuple(_notes(matches)),
        tuple(i.layout for stage in stages for i in stage.inputs),
    )
    with StatisticsWriter(target, head) as writer:
        progress.stage("calibrating", count * sum(len(stage.passes) for stage in stages))
        for stage in stages:
            sums = _sums(stage, gate, loaded.network.device, progress)
            for i in stage.inputs:
                _write_input(writer, i, sums)
            # a last pass that measures nothing still moves the text on
            next(sums, None)
        writer.commit()


def _sums(stage: Stage, gate: ExpertGate, device: torch.device, progress: Progress) -> Iterator[Accumulator]:
    """The sums of all probes of a stage, in order; each pass is run when it is asked for."""
    for number in range(len(stage.passes)):
        measuring = stage.measure(number, gate, device)
        while True:
            try:
                next(measuring)
            except StopIteration as end:
                found: list[Accumulator] = end.value
                break
            progress.advance(1)
        while found:
            yield found.pop(0)


def _write_input(writer: StatisticsWriter, i: ModelInput, sums: Iterator[Accumulator]) -> None:
    counts = np.zeros(i.layout.sets)
    diagonal = np.zeros((i.layout.sets, i.layout.row_length))

    def pieces() -> Iterator[Floats]:
        for number in range(i.layout.sets):
            accumulator = next(sums)
            total: NDArray[np.float32] = accumulator.result()
            counts[number] = accumulator.count
            share = 1 / max(1, accumulator.count)
            diagonal[number] = np.diag(total) * np.float64(share)
            if not np.isfinite(diagonal[number]).all():
                raise CalibrationError(
                    f"what flows into {i.layout.tensors[0]} is not finite on the calibration text; calibrate in float32"
                )
            yield from pack(total, share)

    writer.write(pieces(), diagonal, counts)


def _notes(matches: Matches) -> Iterator[str]:
    by_reason: dict[str, list[str]] = {}
    for name, why in matches.unmatched.items():
        by_reason.setdefault(why, []).append(name)
    for why, names in by_reason.items():
        listed = names[0] if len(names) == 1 else f"{len(names)} tensors, such as {names[0]}"
        yield f"no statistics for {listed}: {why}"
