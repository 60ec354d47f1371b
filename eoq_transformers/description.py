"""What the configuration of a Hugging Face folder says of its codes: written and read here alone.

`quantization_config` of config.json holds

    quant_method   "eoq"
    version        1
    bits           of the type that most weights have
    block_size     of that type
    signs          the words of docs/format.md, section 3, in hexadecimal
    types          by name of a type: bits, block_size, and the levels: `centroids`, float32, of a scalar type, or
                   `tables` and `matrix` (masks) of a trellis type
    tensors        by name of a layer: the type of its weight, and its bits; `suffix`, which is empty, where the tensor
                   of floats would have the layer's own name, without ".weight"
    gguf           what the GGUF that the codes are from says of how they were made, by its keys; not in all folders
    dequantize     whether `from_pretrained` turns all codes into floats

A level counts 2^-12 norms. The weights of layer L are `L.packed`, uint8, and `L.norms`, float16 (eoq_formats.tensors),
and where channels were scaled and no layer before divides them, `L.awq_scales`, float16: weights times scales were
rounded.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from eoq_formats.codebooks import codebook
from eoq_formats.errors import EoqError, UnknownTypeError
from eoq_formats.rotation import SIGN_WORDS
from eoq_formats.tensors import code_bytes
from eoq_formats.trellis import trellis_code
from eoq_formats.types import BITS, WeightType, weight_type

METHOD = "eoq"
VERSION = 1
PACKED, NORMS, AWQ_SCALES = "packed", "norms", "awq_scales"
PARTS = (PACKED, NORMS, AWQ_SCALES)
WEIGHT = ".weight"
Recorded = str | int | tuple[str, ...]
"""A value that is kept of a GGUF's metadata."""
_SIGNS = [f"{word:08x}" for word in SIGN_WORDS]
_SHOWN = 120


class FormatError(EoqError):
    """A folder of EOQ codes is not as its format says, or of a version that this program does not know."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, without its data."""

    dtype: str
    """As safetensors writes it: `U8`, `F16`, …"""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Codes:
    """The codes of one layer, as far as the files promise them."""

    type: WeightType
    shape: tuple[int, ...]
    """Of the weights: rows and their length, below experts where there are several."""
    has_scales: bool
    """Whether `awq_scales` are there."""

    @property
    def nbytes(self) -> int:
        """Of codes and norms."""
        count = 1
        for size in self.shape:
            count *= size
        return count // self.type.width * self.type.block_bytes


def describe(
    types: Mapping[str, WeightType], bare: Collection[str] = (), recorded: Mapping[str, Recorded] | None = None
) -> dict[str, Any]:
    """The `quantization_config` of a folder whose layers have these types.

    `bare` are the layers whose tensors of floats have their very name, and `recorded` is what is kept of the GGUF.
    """
    used = sorted(set(types.values()), key=lambda t: t.id)
    most = Counter(types.values()).most_common(1)[0][0]
    return {
        "quant_method": METHOD,
        "version": VERSION,
        "bits": most.bits,
        "block_size": most.width,
        "signs": list(_SIGNS),
        "types": {t.name.lower(): _levels(t) for t in used},
        "tensors": {
            name: {"type": t.name.lower(), "bits": t.bits} | ({"suffix": ""} if name in bare else {})
            for name, t in sorted(types.items())
        },
        **({"gguf": {key: list(v) if isinstance(v, tuple) else v for key, v in recorded.items()}} if recorded else {}),
        "dequantize": True,
    }


def _levels(t: WeightType) -> dict[str, Any]:
    if not t.is_trellis:
        centroids = [float(level) for level in codebook(t.bits).levels]
        return {"bits": t.bits, "block_size": t.width, "centroids": centroids}
    code = trellis_code(t.bits)
    tables = [float(level) for level in (*code.first, *(code.second if code.code_bits == 4 else ()))]
    return {"bits": t.bits, "block_size": t.width, "tables": tables, "matrix": list(code.masks)}


def read_description(config: Mapping[str, Any]) -> dict[str, WeightType]:
    """The type of each layer that has codes, by its name. Raises FormatError."""
    version = config.get("version")
    if version != VERSION or isinstance(version, bool):
        raise FormatError(
            f"the folder has version {_shown(version)} of the EOQ format for Hugging Face folders, and this program "
            f"reads version {VERSION}; take a newer EOQ, or export the model again"
        )
    if config.get("signs") != _SIGNS:
        raise FormatError(
            "the quantization_config has other signs than those of docs/format.md; export the model again"
        )
    stored = _table(config, "types")
    named = {name: _type_of(name, content) for name, content in stored.items()}
    tensors = _table(config, "tensors")
    found = {}
    for name, content in tensors.items():
        kind = content.get("type") if isinstance(content, dict) else None
        if not isinstance(kind, str) or kind not in named:
            raise FormatError(
                f"the quantization_config gives {name} the type {_shown(kind)}, which its types do not list; export "
                "the model again"
            )
        _check_bits(name, content.get("bits"), named[kind])
        found[name] = named[kind]
    if not found:
        raise FormatError("the quantization_config lists no tensors, so there are no codes to read")
    return found


def read_float_names(config: Mapping[str, Any]) -> dict[str, str]:
    """What the tensor of floats of each layer is called, by the layer's name. Raises FormatError."""
    names = {}
    for name, content in _table(config, "tensors").items():
        suffix = content.get("suffix", WEIGHT) if isinstance(content, dict) else WEIGHT
        if suffix not in ("", WEIGHT):
            raise FormatError(
                f"the quantization_config gives {name} the suffix {_shown(suffix)}; export the model again"
            )
        names[name] = f"{name}{suffix}"
    return names


def read_recorded(config: Mapping[str, Any]) -> dict[str, Recorded]:
    """What a folder keeps of the GGUF that its codes are from, by the GGUF's keys. Raises FormatError."""
    stored = config.get("gguf", {})
    if not isinstance(stored, dict):
        raise FormatError("the quantization_config has no table of gguf; export the model again")
    found: dict[str, Recorded] = {}
    for key, value in stored.items():
        kept = tuple(value) if isinstance(value, list) else value
        texts = kept if isinstance(kept, tuple) else (kept,) if isinstance(kept, str) else ()
        is_number = type(kept) is int and 0 <= kept < 2**32
        if not (is_number or isinstance(kept, str | tuple)) or not all(map(_is_text, texts)):
            raise FormatError(
                f"the quantization_config has {_shown(value)} as {_shown(key)} of its gguf, which is neither text, nor "
                "texts, nor a number of 32 bits; export the model again"
            )
        found[key] = kept
    return found


def _is_text(value: Any) -> bool:
    """Of UTF-8, which has no halves of UTF-16's pairs, as JSON can have them."""
    return isinstance(value, str) and value.encode(errors="ignore").decode() == value


def _table(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    content = config.get(key)
    if not isinstance(content, dict):
        raise FormatError(f"the quantization_config has no table of {key}; export the model again")
    return content


def _type_of(name: str, content: Any) -> WeightType:
    try:
        t = weight_type(name)
    except UnknownTypeError as e:
        raise FormatError(f"the quantization_config has an {e}") from None
    if not isinstance(content, dict):
        raise FormatError(f"the quantization_config says nothing of its type {name}; export the model again")
    _check_bits(name, content.get("bits"), t)
    if content != _levels(t):
        raise FormatError(
            f"the levels or blocks that the quantization_config gives for {name} are not those of docs/format.md; "
            "export the model again"
        )
    return t


def _check_bits(name: str, bits: Any, t: WeightType) -> None:
    if type(bits) is not int or bits not in BITS:
        raise FormatError(
            f"the quantization_config gives {name} {_shown(bits)} bits, and there are types of {BITS[0]} to {BITS[-1]}"
        )
    if bits != t.bits:
        raise FormatError(f"the quantization_config gives {name} {bits} bits and the type {t.name.lower()}")


def _shown(value: Any) -> str:
    return repr(value)[:_SHOWN]


def check_codes(types: Mapping[str, WeightType], stored: Mapping[str, Stored]) -> dict[str, Codes]:
    """The codes of each layer, by its name, from the heads of the files. Raises FormatError for what is not sound."""
    return {name: _check_layer(name, t, stored) for name, t in types.items()}


def _check_layer(name: str, t: WeightType, stored: Mapping[str, Stored]) -> Codes:
    packed, norms, scales = (stored.get(f"{name}.{part}") for part in PARTS)
    for part, found, dtype in ((PACKED, packed, "U8"), (NORMS, norms, "F16")):
        if found is None:
            raise FormatError(f"the folder has no {name}.{part}, so {name} cannot be read; get its files again")
        if found.dtype != dtype or not 2 <= len(found.shape) <= 3 or 0 in found.shape:
            raise FormatError(
                f"{name}.{part} is {found.dtype} of shape {list(found.shape)}, and should be {dtype} of rows of blocks"
            )
    assert packed is not None and norms is not None
    wanted = (*norms.shape[:-1], norms.shape[-1] * code_bytes(t))
    if packed.shape != wanted:
        raise FormatError(
            f"{name}.packed has the shape {list(packed.shape)}, and norms of shape {list(norms.shape)} go with "
            f"{list(wanted)} of {t.name.lower()}; get the files again"
        )
    shape = (*norms.shape[:-1], norms.shape[-1] * t.width)
    if scales is not None and (scales.dtype != "F16" or scales.shape != shape[-1:]):
        raise FormatError(
            f"{name}.awq_scales is {scales.dtype} of shape {list(scales.shape)}, and should be F16 of {shape[-1]}"
        )
    return Codes(t, shape, scales is not None)
