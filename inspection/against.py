"""A file held against the model that it was made from."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from converter.rounding.rounded_rows import row_chunks
from eoq_formats import kernels
from gguf_files.source import Source
from gguf_files.tensor_types import INTEGER_TYPES, can_dequantize, type_name
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights
from inspection.faults import Fault
from inspection.found_scales import FoundScales, find_scales
from inspection.metadata_check import METHOD_KEY
from inspection.promised_error import LARGEST, promised_error
from inspection.row_sums import row_sums
from terminal.progress import Progress


@dataclass(frozen=True)
class Comparison:
    """A tensor beside its source."""

    tensor: TensorInfo
    error: float
    """Squared differences over the squared weights, those with the scales folded in; 0 for a copy."""
    bound: float
    """The most that its type promises."""
    is_copy: bool = False

    @property
    def is_within(self) -> bool:
        return self.error <= self.bound


@dataclass(frozen=True)
class Compared:
    """All tensors beside their sources."""

    comparisons: tuple[Comparison, ...]
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]
    """What could not be compared."""


def compare(file: Source, source: Source, threads: int, progress: Progress) -> Compared:
    """Compare weights tensor by tensor; nothing is wrong with those within `promised_error`."""
    faults = _differences(file, source)
    sources, odd = {t.name: t for t in source.tensors}, {fault.tensor for fault in faults}
    tensors = [t for t in file.tensors if t.name not in odd]
    method = str(file.value(METHOD_KEY) or "")
    comparisons: list[Comparison] = []
    notes: list[str] = []
    kernels.set_threads(threads)
    with RowWorkers(threads) as workers:
        read, read_file = SourceWeights(source, workers), SourceWeights(file, workers)
        scales = FoundScales.none(read)
        if "awq" in method:
            scales = find_scales(source, {t.name: t for t in tensors}, read, read_file, progress)
        progress.stage("comparing", sum(t.weights for t in tensors))
        for tensor in tensors:
            before = sources[tensor.name]
            if before.type == tensor.type and not scales.touches(tensor.name):
                if not _same_bytes(file, source, tensor):
                    what = f"its bytes are not those of the source, though both are {type_name(tensor.type)}"
                    faults.append(Fault(tensor.name, what))
                comparisons.append(Comparison(tensor, 0.0, 0.0, is_copy=True))
            elif not all(can_dequantize(t.type) and t.type not in INTEGER_TYPES for t in (before, tensor)):
                kinds = f"{type_name(before.type)} and {type_name(tensor.type)}"
                notes.append(f"tensor {tensor.name} was not compared: gguf-py cannot turn {kinds} into floats")
            else:
                compared = _compare(tensor, before, scales, read_file, feedback="feedback" in method)
                if compared is None:
                    notes.append(f"tensor {tensor.name} was not compared: {type_name(tensor.type)} promises no error")
                    continue
                comparisons.append(compared)
                faults += _fault_of(compared)
            progress.advance(tensor.weights)
    return Compared(tuple(comparisons), tuple(faults), tuple(notes))


def _differences(file: Source, source: Source) -> list[Fault]:
    """Tensors that only one of the two has, or that differ in shape."""
    ours, theirs = ({t.name: t.shape for t in model.tensors} for model in (file, source))
    return [
        *(Fault(name, "the source has no such tensor") for name in ours if name not in theirs),
        *(Fault(name, "the source has it, the file does not") for name in theirs if name not in ours),
        *(
            Fault(name, f"its shape is {list(shape)}, that of the source {list(theirs[name])}")
            for name, shape in ours.items()
            if name in theirs and shape != theirs[name]
        ),
    ]


def _same_bytes(file: Source, source: Source, tensor: TensorInfo) -> bool:
    for start, stop in row_chunks(tensor):
        if not np.array_equal(file.rows(tensor, start, stop), source.rows(tensor, start, stop)):
            return False
    return True


def _compare(
    tensor: TensorInfo, before: TensorInfo, scales: FoundScales, read_file: SourceWeights, *, feedback: bool
) -> Comparison | None:
    energy = error = 0.0
    dead = scales.dead.get(tensor.name)
    for start, stop in row_chunks(tensor):
        x, y = scales.folded.read(before, start, stop), read_file.read(tensor, start, stop)
        if dead is not None:
            y[:, dead] = x[:, dead]
        sums = row_sums(x, y)
        energy += float(sums.xx.sum())
        error += float(sums.error.sum())
    promised = promised_error(tensor.type, feedback=feedback, mean_square=energy / tensor.weights)
    if promised is None:
        return None
    relative = error / energy if energy > 0 else 0.0 if error == 0 else float("inf")
    return Comparison(tensor, relative, min(promised + scales.doubt.get(tensor.name, 0.0), LARGEST))


def _fault_of(compared: Comparison) -> Iterator[Fault]:
    if not compared.is_within:
        kind = type_name(compared.tensor.type)
        text = (
            f"its error, {compared.error:.3g} of the weights' energy, is above {compared.bound:.3g}, the most of {kind}"
        )
        yield Fault(compared.tensor.name, text)
