"""The metadata of the output: what the source says of the model, and how this file was made."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from gguf import GGML_QUANT_VERSION, GGUFValueType

from converter.plan import Plan
from eoq_formats.codebooks import codebook
from eoq_formats.trellis import trellis_code
from eoq_formats.types import WeightType
from gguf_files.header import MetadataEntry, pack_array, pack_entry
from gguf_files.tensor_types import is_quantized, type_name

FORMAT_VERSION = 1
"""Version of the byte format (docs/format.md)."""
TOOL = "eoq converter 0.1.0"

_REPLACED = ("general.file_type", "general.quantization_version")
_DROPPED = ("split.", "eoq.", "quantize.imatrix.")
_SOURCE = "general.source."
_QUANTIZED_BY = "general.quantized_by"


def target_metadata(
    source: Sequence[MetadataEntry],
    plan: Plan,
    options: Sequence[str],
    method: str,
    statistics: str | None = None,
    imatrix: Mapping[str, str | int] = MappingProxyType({}),
    quantized_by: str | None = None,
    origin: str | None = None,
) -> list[MetadataEntry]:
    """Entries of the output. Nothing in them depends on time, place or machine.

    `options` are those that decide its bytes, `statistics` says what these were taken from, and `imatrix` what
    llama-quantize would say of them. `origin` is the model's page on the hub, for a source that does not name it.
    """
    replaced = (*_REPLACED, *([_QUANTIZED_BY] if quantized_by is not None else []))
    kept = [entry for entry in source if entry.key not in replaced and not entry.key.startswith(_DROPPED)]
    return [
        *kept,
        *_origin_entries(kept, origin),
        *([] if quantized_by is None else [_text_or_number(_QUANTIZED_BY, quantized_by)]),
        pack_entry("general.quantization_version", GGUFValueType.UINT32, GGML_QUANT_VERSION),
        pack_entry("general.file_type", GGUFValueType.UINT32, plan.file_type.id),
        pack_entry("eoq.format_version", GGUFValueType.UINT32, FORMAT_VERSION),
        *type_entries(plan.eoq_types),
        pack_entry("eoq.method", GGUFValueType.STRING, method),
        pack_entry("eoq.tool", GGUFValueType.STRING, TOOL),
        pack_array("eoq.options", GGUFValueType.STRING, options),
        *([pack_entry("eoq.calibration", GGUFValueType.STRING, statistics)] if statistics else []),
        *(_text_or_number(key, value) for key, value in imatrix.items()),
        *_source_types(plan),
    ]


def _origin_entries(kept: Sequence[MetadataEntry], origin: str | None) -> list[MetadataEntry]:
    if origin is None or any(entry.key.startswith(_SOURCE) for entry in kept):
        return []
    repository = origin.partition("/tree/")[0]
    return [_text_or_number(f"{_SOURCE}url", origin), _text_or_number(f"{_SOURCE}repo_url", repository)]


def _text_or_number(key: str, value: str | int) -> MetadataEntry:
    """Numbers as llama-quantize writes them."""
    return pack_entry(key, GGUFValueType.STRING if isinstance(value, str) else GGUFValueType.UINT32, value)


def type_entries(types: Sequence[WeightType]) -> list[MetadataEntry]:
    """The EOQ types in use, given by id, and their codebooks; nothing where no tensor got one."""
    if not types:
        return []
    names = pack_array("eoq.types", GGUFValueType.STRING, [t.name.lower() for t in types])
    scalar = sorted({t.bits for t in types if not t.is_trellis})
    trellis = sorted({t.bits for t in types if t.is_trellis})
    return [
        names,
        *(pack_array(f"eoq.codebook.{b}", GGUFValueType.INT8, codebook(b).levels.tolist()) for b in scalar),
        *(pack_array(f"eoq.trellis.{b}", GGUFValueType.INT8, _trellis_levels(b)) for b in trellis),
    ]


def _trellis_levels(bits: int) -> list[int]:
    code = trellis_code(bits)
    return [*code.first.tolist(), *(code.second.tolist() if code.code_bits == 4 else ())]


def _source_types(plan: Plan) -> list[MetadataEntry]:
    """The types that the weights had before. A quantised one means that this file was requantised."""
    changed = [t.tensor.type for t in plan.tensors if not t.is_copy or is_quantized(t.tensor.type)]
    names = sorted({type_name(t) for t in changed})
    return [pack_array("eoq.source_types", GGUFValueType.STRING, names)] if names else []
