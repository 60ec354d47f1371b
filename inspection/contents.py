"""What is in a GGUF file: its tensors, their sizes, and the codes of those with EOQ types."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converter.rounding.rounded_rows import row_chunks
from eoq_formats import kernels
from gguf_files.source import Source
from gguf_files.tensor_types import bits_per_weight, eoq_type, type_name
from gguf_files.tensors import TensorInfo
from inspection.codes import CodeCounts, count_codes
from inspection.faults import InspectionError
from terminal.progress import Progress
from terminal.table import markdown_table

VERSION = 1
"""Version of the layout of the JSON."""


@dataclass(frozen=True)
class TensorContents:
    tensor: TensorInfo
    codes: CodeCounts | None
    """None for types that are not EOQ's."""


@dataclass(frozen=True)
class Contents:
    """A file's tensors, or some of them."""

    name: str
    tensors: tuple[TensorContents, ...]

    def by_type(self) -> dict[str, list[TensorContents]]:
        """Types in the order of their first tensors."""
        found: dict[str, list[TensorContents]] = {}
        for entry in self.tensors:
            found.setdefault(type_name(entry.tensor.type), []).append(entry)
        return found

    def codes_by_type(self) -> dict[str, CodeCounts]:
        """Of all tensors of each EOQ type together."""
        found: dict[str, CodeCounts] = {}
        for entry in self.tensors:
            if entry.codes is not None:
                kind = type_name(entry.tensor.type)
                found[kind] = found[kind] + entry.codes if kind in found else entry.codes
        return found

    def lines(self) -> list[str]:
        """For people: all tensors, totals by type, and the codes of EOQ types."""
        lines = [_tensor_table(self.tensors), "", _type_table(self.by_type())]
        codes = self.codes_by_type()
        if codes:
            lines += ["", _code_table(codes)]
        for kind, counts in codes.items():
            lines += ["", _histogram_table(kind, counts)]
        return lines

    def as_json(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "file": self.name,
            "tensors": [_tensor_json(entry) for entry in self.tensors],
            "types": {
                kind: {**_sizes(entries), **_codes_json(self.codes_by_type().get(kind))}
                for kind, entries in self.by_type().items()
            },
        }


def read_contents(file: Source, threads: int, progress: Progress, pattern: str | None = None) -> Contents:
    """Read a file's tensors, those in whose name the expression is found. Raises InspectionError."""
    kernels.set_threads(threads)
    tensors = _chosen(file.tensors, pattern)
    progress.stage("counting codes", sum(t.weights for t in tensors))
    entries = []
    for tensor in tensors:
        entries.append(TensorContents(tensor, _codes_of(file, tensor)))
        progress.advance(tensor.weights)
    return Contents(file.paths[0].name, tuple(entries))


def _chosen(tensors: Sequence[TensorInfo], pattern: str | None) -> Sequence[TensorInfo]:
    if pattern is None:
        return tensors
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise InspectionError(f"--tensor {pattern} is no regular expression: {error}") from None
    chosen = [t for t in tensors if expression.search(t.name)]
    if not chosen:
        raise InspectionError(f"--tensor {pattern} is found in the name of no tensor; leave it out to see all names")
    return chosen


def _codes_of(file: Source, tensor: TensorInfo) -> CodeCounts | None:
    eoq = eoq_type(tensor.type)
    if eoq is None:
        return None
    total = None
    for start, stop in row_chunks(tensor):
        counts = count_codes(file.rows(tensor, start, stop), eoq)
        total = counts if total is None else total + counts
    return total


def _sizes(entries: Sequence[TensorContents]) -> dict[str, Any]:
    weights, size = sum(e.tensor.weights for e in entries), sum(e.tensor.nbytes for e in entries)
    return {"tensors": len(entries), "weights": weights, "bytes": size, "bits_per_weight": 8 * size / weights}


def _tensor_json(entry: TensorContents) -> dict[str, Any]:
    t = entry.tensor
    return {
        "name": t.name,
        "shape": list(t.shape),
        "type": type_name(t.type),
        "bits_per_weight": bits_per_weight(t.type),
        "bytes": t.nbytes,
        **_codes_json(entry.codes),
    }


def _codes_json(codes: CodeCounts | None) -> dict[str, Any]:
    if codes is None:
        return {}
    histogram = codes.histogram
    return {
        "entropy": codes.entropy,
        "gaussian_entropy": codes.expected_entropy,
        "divergence": codes.divergence,
        "deviation": codes.deviation,
        "gaussian_deviation": codes.expected_deviation,
        "smallest_scale": _finite(codes.scales[0]),
        "largest_scale": _finite(codes.scales[1]),
        "zero_blocks": codes.zero_blocks,
        "histogram": {
            "values": list(histogram.labels),
            "found": histogram.found.tolist(),
            "gaussian": histogram.expected.tolist(),
        },
    }


def _finite(scale: float) -> float | None:
    return scale if math.isfinite(scale) else None


def _tensor_table(entries: Sequence[TensorContents]) -> str:
    rows = []
    for entry in entries:
        t, codes = entry.tensor, entry.codes
        shape = "[" + ", ".join(map(str, t.shape)) + "]"
        of_codes = ["", ""] if codes is None else [f"{codes.entropy:.3f}", _scales(codes)]
        rows.append([t.name, shape, type_name(t.type), f"{bits_per_weight(t.type):.3f}", f"{t.nbytes:,}", *of_codes])
    return markdown_table(["tensor", "shape", "type", "bpw", "bytes", "entropy of codes", "scales"], rows)


def _scales(codes: CodeCounts) -> str:
    smallest, largest = codes.scales
    return f"{smallest:.3g} … {largest:.3g}" if codes.weights else "all zero"


def _type_table(by_type: dict[str, list[TensorContents]]) -> str:
    kinds = {**by_type, "all": [entry for entries in by_type.values() for entry in entries]}
    rows = []
    for kind, entries in kinds.items():
        sizes = _sizes(entries)
        numbers = [f"{sizes[key]:,}" for key in ("tensors", "weights", "bytes")]
        rows.append([kind, *numbers, f"{sizes['bits_per_weight']:.3f}"])
    return markdown_table(["type", "tensors", "weights", "bytes", "bpw"], rows)


def _code_table(codes: dict[str, CodeCounts]) -> str:
    rows = []
    for kind, counts in codes.items():
        bits = counts.type.bits
        rows.append(
            [
                kind,
                f"{counts.entropy:.4f}",
                f"{counts.expected_entropy:.4f}",
                f"{100 * (1 - counts.entropy / bits):.1f} %",
                f"{counts.divergence:.5f}",
                f"{counts.deviation:.4f}",
                f"{counts.expected_deviation:.4f}",
                f"{counts.zero_blocks:,}",
                _scales(counts),
            ]
        )
    head = ["codes, all tensors", "entropy", "Gaussian", "to save", "divergence", "deviation", "Gaussian"]
    return markdown_table([*head, "zero blocks", "scales"], rows)


def _histogram_table(kind: str, counts: CodeCounts) -> str:
    histogram = counts.histogram
    rows = [
        [f"{value:.3f}", f"{100 * found:.3f} %", f"{100 * expected:.3f} %"]
        for value, found, expected in zip(histogram.labels, histogram.found, histogram.expected, strict=True)
    ]
    what = "decoded value about" if counts.type.is_trellis else "level"
    return markdown_table([f"{kind}: {what}", "share", "Gaussian"], rows)
