"""Metadata held against the tensors of the file, as docs/format.md has it."""

from collections.abc import Iterable, Sequence

from gguf import GGML_QUANT_VERSION, GGUFValueType

from converter.report.metadata import FORMAT_VERSION, type_entries
from eoq_formats.types import WEIGHT_TYPES, WeightType
from gguf_files.header import MetadataEntry, pack_entry
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from inspection.faults import Fault

METHODS = ("rtn", "error-feedback", "awq+error-feedback", "awq+rtn")
VERSION_KEY = "eoq.format_version"
METHOD_KEY = "eoq.method"

_TABLES = ("eoq.types", "eoq.codebook.", "eoq.trellis.")
_TEXTS = ("eoq.method", "eoq.tool", "eoq.calibration")
_LISTS = ("eoq.options", "eoq.source_types")
_ALWAYS = (METHOD_KEY, "eoq.tool", "eoq.options")


def has_eoq_metadata(source: Source) -> bool:
    """Whether the file says how it was made. One of llama-quantize has EOQ types and does not."""
    return any(entry.key.startswith("eoq.") for entry in source.metadata)


def eoq_types_of(source: Source) -> list[WeightType]:
    """The EOQ types of its tensors, by id."""
    used = {eoq.id: eoq for t in source.tensors if (eoq := eoq_type(t.type)) is not None}
    return [used[number] for number in sorted(used)]


def requantised(source: Source) -> str | None:
    """What to say of a file that another program quantised once more and left the keys of a conversion in.

    llama-quantize does so: neither the types of the tensors nor `general.file_type` are of those in `eoq.types`.
    """
    listed = next((entry.texts for entry in source.metadata if entry.key == "eoq.types"), ())
    named = next((t for t in WEIGHT_TYPES if t.id == source.value("general.file_type")), None)
    families = {t.family for t in WEIGHT_TYPES if t.name.lower() in listed}
    if not families or {t.name.lower() for t in eoq_types_of(source)} == set(listed):
        return None
    if named is not None and named.family in families:
        return None
    return (
        f"a conversion gave its tensors the types {', '.join(listed)}, and another program, such as llama-quantize, "
        "quantised them once more and kept the eoq.* keys; it has the errors of both, and nothing to be verified by: "
        "convert the original model"
    )


def metadata_faults(source: Source) -> list[Fault]:
    """What in the metadata of an EOQ file is missing, unknown, or belongs to other tensors."""
    if not has_eoq_metadata(source):
        return []
    entries = {entry.key: entry for entry in source.metadata}
    texts = [
        *_version_faults(entries.get(VERSION_KEY)),
        *_table_faults(source.metadata, type_entries(eoq_types_of(source))),
        *(f"the key {key} is missing" for key in _ALWAYS if key not in entries),
        *_kind_faults(entries.values()),
    ]
    method = entries[METHOD_KEY].value if METHOD_KEY in entries else None
    if isinstance(method, str) and method not in METHODS:
        texts.append(f"{METHOD_KEY} is {method!r}, which is none of {', '.join(METHODS)}")
    if method == "rtn" and "eoq.calibration" in entries:
        texts.append("eoq.calibration names statistics, but eoq.method is rtn, which uses none")
    version = source.value("general.quantization_version")
    if version != GGML_QUANT_VERSION:
        texts.append(f"general.quantization_version is {version}, not {GGML_QUANT_VERSION}")
    number = source.value("general.file_type")
    if number not in {t.id for t in WEIGHT_TYPES}:
        texts.append(f"general.file_type is {number}, which is the number of no EOQ type")
    return [Fault(None, text) for text in texts]


def _version_faults(entry: MetadataEntry | None) -> list[str]:
    expected = pack_entry(VERSION_KEY, GGUFValueType.UINT32, FORMAT_VERSION)
    if entry is None:
        return [f"the key {VERSION_KEY} is missing"]
    return [] if entry.raw == expected.raw else [f"{VERSION_KEY} is {entry.value}, and this program knows 1"]


def _table_faults(metadata: Sequence[MetadataEntry], expected: Sequence[MetadataEntry]) -> list[str]:
    """Types and codebooks, byte for byte."""
    present = {e.key: e.raw for e in metadata if e.key.startswith(_TABLES)}
    wanted = {e.key: e.raw for e in expected}
    faults = [f"the key {key} is missing" for key in wanted if key not in present]
    faults += [f"the key {key} is for a type that no tensor has" for key in present if key not in wanted]
    for key in wanted.keys() & present.keys():
        if present[key] != wanted[key]:
            what = "the types of the tensors" if key == "eoq.types" else "the levels that files are read with"
            faults.append(f"{key} is not {what}")
    return sorted(faults)


def _kind_faults(entries: Iterable[MetadataEntry]) -> list[str]:
    """Keys that hold something else than texts."""
    faults = []
    for entry in entries:
        if entry.key in _TEXTS and not isinstance(entry.value, str):
            faults.append(f"{entry.key} is not a text")
        if entry.key in _LISTS and (entry.array is None or entry.array[0] != GGUFValueType.STRING):
            faults.append(f"{entry.key} is not a list of texts")
    return faults
