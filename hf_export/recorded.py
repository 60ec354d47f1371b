"""What a folder keeps of the metadata of the GGUF that its codes are from, and what comes of it on the way back."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

from converter.plan import Plan, TensorPlan
from converter.report.metadata import target_metadata
from eoq_formats.types import WEIGHT_TYPES, WeightType
from eoq_transformers.description import Recorded
from gguf_files.header import MetadataEntry
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type

METHOD, OPTIONS, CALIBRATION = "eoq.method", "eoq.options", "eoq.calibration"
FILE_TYPE, QUANTIZED_BY = "general.file_type", "general.quantized_by"
_IMATRIX = tuple(f"quantize.imatrix.{key}" for key in ("file", "dataset", "entries_count", "chunks_count"))
_KEPT = (METHOD, OPTIONS, CALIBRATION, FILE_TYPE, QUANTIZED_BY, *_IMATRIX)
_OWN = "eoq."

Kind = TypeVar("Kind", bound=Recorded)


def recorded_of(file: Source) -> dict[str, Recorded]:
    """What tells how a GGUF was made and cannot be told from its tensors; nothing of a file without such keys."""
    found: dict[str, Recorded] = {}
    for entry in file.metadata:
        if entry.key in _KEPT:
            if entry.key == OPTIONS:
                found[entry.key] = entry.texts
            elif isinstance(entry.value, str) or (type(entry.value) is int and entry.value >= 0):
                found[entry.key] = entry.value
    return found


def value_of(recorded: Mapping[str, Recorded], key: str, kind: type[Kind]) -> Kind | None:
    """What is kept under a key, where it is of this kind."""
    value = recorded.get(key)
    return value if isinstance(value, kind) else None


def file_type_of(recorded: Mapping[str, Recorded], tensors: Sequence[TensorPlan]) -> WeightType:
    """The type that names the file: as it was, or else that of most weights."""
    by_id = {t.id: t for t in WEIGHT_TYPES}
    named = by_id.get(value_of(recorded, FILE_TYPE, int) or 0)
    if named is not None:
        return named
    counts: Counter[str] = Counter()
    for t in tensors:
        if (eoq := eoq_type(t.type)) is not None:
            counts[eoq.family] += t.tensor.weights
    family = counts.most_common(1)[0][0]
    return next(t for t in WEIGHT_TYPES if t.name == family)


def restored_metadata(
    source: Source, plan: Plan, recorded: Mapping[str, Recorded], quantized_by: str | None, origin: str | None
) -> list[MetadataEntry]:
    """Entries of the GGUF that codes are put back into, as a conversion would write them.

    The codes of a GGUF that did not say how it was made get into one that does not say so either.
    """
    method = value_of(recorded, METHOD, str)
    imatrix = {key: value for key in _IMATRIX if isinstance(value := recorded.get(key), str | int)}
    entries = target_metadata(
        source.metadata,
        plan,
        value_of(recorded, OPTIONS, tuple) or (),
        method or "",
        value_of(recorded, CALIBRATION, str),
        imatrix,
        value_of(recorded, QUANTIZED_BY, str) if quantized_by is None else quantized_by,
        origin,
    )
    return entries if method is not None else [entry for entry in entries if not entry.key.startswith(_OWN)]
