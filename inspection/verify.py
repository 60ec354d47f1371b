"""A finished file verified: its structure, its blocks, its metadata, its checksums, and its error."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gguf_files.checksums import CHECKSUMS, read_checksums
from gguf_files.source import Source
from gguf_files.tensor_types import type_name
from inspection.against import Compared, Comparison, compare
from inspection.faults import Fault, UnsoundFileError
from inspection.metadata_check import eoq_types_of, has_eoq_metadata, metadata_faults, requantised
from inspection.tensor_check import check_tensors
from llama_programs.check_gguf import RefusedByLlamaCpp, check_by_llama_cpp
from terminal.progress import Progress
from terminal.table import markdown_table

VERSION = 1
"""Version of the layout of the JSON."""
_WORST = 5
"""Tensors that are shown one by one."""


@dataclass(frozen=True)
class Verification:
    """What is right and wrong with a file."""

    file: Source
    has_checksums: bool
    faults: tuple[Fault, ...]
    notes: tuple[str, ...] = ()
    source: Source | None = None
    compared: Compared = field(default_factory=lambda: Compared((), (), ()))
    by_llama_cpp: str | None = None
    """What llama.cpp's own reader said of it; None if it was not asked."""

    def lines(self) -> list[str]:
        """For people: errors by type, the worst tensors, notes, and all faults."""
        lines = [*_tables(self.compared), ""] if self.compared.comparisons else []
        lines += [f"note: {note}" for note in self.notes]
        return lines + [f"fault: {fault}" for fault in self.faults if len(self.faults) > 1]

    def summary(self) -> str:
        """One line for a sound file. Raises UnsoundFileError for any other."""
        name = self.file.paths[0]
        if self.faults:
            several = f"{len(self.faults)} faults, listed above"
            found = str(self.faults[0]) if len(self.faults) == 1 else several
            raise UnsoundFileError(f"{name} is not sound; convert it again or fetch another copy: {found}")
        types = Counter(type_name(t.type) for t in self.file.tensors)
        kinds = ", ".join(f"{count} {kind}" for kind, count in types.most_common())
        checksums = "their checksums right" if self.has_checksums else "no checksums"
        against = ""
        if self.source is not None:
            against = f"; {len(self.compared.comparisons)} of them within their error of {self.source.paths[0].name}"
        said = "" if self.by_llama_cpp is None else f"; {self.by_llama_cpp}"
        return f"{name} is sound: {len(self.file.tensors)} tensors ({kinds}), {checksums}{against}{said}"

    def as_json(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "version": VERSION,
            "file": self.file.paths[0].name,
            "sound": not self.faults,
            "tensors": len(self.file.tensors),
            "bytes": self.file.nbytes,
            "checksums": self.has_checksums,
            "faults": [{"tensor": fault.tensor, "fault": fault.text} for fault in self.faults],
            "notes": list(self.notes),
            "llama_cpp": self.by_llama_cpp,
        }
        if self.source is not None:
            content["against"] = {
                "file": self.source.paths[0].name,
                "tensors": [
                    {
                        "name": c.tensor.name,
                        "type": type_name(c.tensor.type),
                        "error": c.error if math.isfinite(c.error) else None,
                        "bound": c.bound,
                    }
                    for c in self.compared.comparisons
                ],
            }
        return content


def verify(file: Source, threads: int, progress: Progress, against: Source | None = None) -> Verification:
    """Verify an open file, also against the model that it was made from. Damage is in the result, not raised."""
    again = requantised(file)
    faults = [Fault(None, again)] if again else metadata_faults(file)
    notes = []
    checksums, text = (None, None) if again else _checksums(file)
    if text is not None:
        faults.append(Fault(None, text))
    elif checksums is None and not again:
        notes.append("no checksums, as in files of older versions and of llama-quantize: damage may go unseen")
    if not eoq_types_of(file):
        notes.append("no tensor has an EOQ type")
    elif not has_eoq_metadata(file):
        notes.append("no metadata of EOQ's, as in files of llama-quantize")
    progress.stage("reading", sum(t.nbytes for t in file.tensors))
    for found in check_tensors(file, checksums, threads, progress):
        faults += found
    if against is None:
        return Verification(file, checksums is not None, tuple(faults), tuple(notes))
    compared = compare(file, against, threads, progress)
    return Verification(
        file, checksums is not None, (*faults, *compared.faults), (*notes, *compared.notes), against, compared
    )


def shown_to_llama_cpp(verification: Verification, folder: Path | None, threads: int) -> Verification:
    """The verification of a file without faults, with what llama.cpp's own reader says; others as they are.

    Its program is looked for in `folder`, or among those of tools/setup.sh; where it is not, a note says so.
    """
    if verification.faults:
        return verification
    files = {path: path for path in verification.file.paths}
    source = () if verification.source is None else verification.source.paths
    try:
        answer = check_by_llama_cpp(files, source, folder, threads)
    except RefusedByLlamaCpp as error:
        return replace(verification, faults=(Fault(None, str(error)),))
    if not answer.was_asked:
        return replace(verification, notes=(*verification.notes, answer.text))
    return replace(verification, by_llama_cpp=answer.text)


def _checksums(file: Source) -> tuple[Sequence[int] | None, str | None]:
    """Those of the file, or what is wrong with them."""
    try:
        found = read_checksums(file.metadata)
    except ValueError as error:
        return None, str(error)
    if found is not None and len(found) != len(file.tensors):
        return None, f"{CHECKSUMS} has {len(found)} checksums for {len(file.tensors)} tensors"
    return None if found is None else found.tolist(), None


def _tables(compared: Compared) -> list[str]:
    """Errors by type, and the tensors nearest to their bound or beyond it."""
    by_type: dict[str, list[Comparison]] = {}
    for c in compared.comparisons:
        by_type.setdefault("copies" if c.is_copy else type_name(c.tensor.type), []).append(c)
    rows = []
    for kind, some in by_type.items():
        mean = sum(c.error * c.tensor.weights for c in some) / sum(c.tensor.weights for c in some)
        largest = max(some, key=lambda c: (math.isnan(c.error), c.error))
        rows.append([kind, str(len(some)), *map(_decibels, (mean, largest.error, largest.bound))])
    lines = [markdown_table(["type", "tensors", "mean error", "largest", "its bound"], rows)]
    rounded = [c for c in compared.comparisons if not c.is_copy]
    worst = sorted(rounded, key=lambda c: (c.is_within, -c.error / c.bound))[:_WORST]
    if worst:
        cells = [[c.tensor.name, type_name(c.tensor.type), _decibels(c.error), _decibels(c.bound)] for c in worst]
        lines += ["", markdown_table(["nearest to its bound", "type", "error", "bound"], cells)]
    return lines


def _decibels(error: float) -> str:
    if error == 0:
        return "none"
    return f"{10 * math.log10(error):.2f} dB" if 0 < error < math.inf else "not a number"
