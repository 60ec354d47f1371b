"""Whether the weights of a Hugging Face folder are quantised already, wherever that is written, and the ways out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.ingest.foreign_code import entries
from converter.ingest.safetensors_folder import StoredTensor
from gguf_files.errors import QuantizedSourceError, SourceError
from input_files.structured import read_json

_UNPACKED = ("bitnet", "fp8", "gptq", "compressed-tensors", "modelopt")
"""Methods whose weights llama.cpp's converter turns into floats, as it does those of 8 bits without scales."""
OWN = "eoq"
"""The method of folders of EOQ codes, as eoq_transformers.description has it, which would load transformers."""
_KEYS = ("quantization_config", "compression_config")
_TEXT_CONFIGS = ("text_config", "llm_config", "lm_config", "language_config", "thinker_config.text_config")
_READ_PLACES = ("quantization_config", *(f"{part}.quantization_config" for part in _TEXT_CONFIGS))
MODELOPT = "hf_quant_config.json"
_PACKED_ENDS = (".weight", ".qweight", ".weight_packed", "_blocks")
_SCALE_ENDS = ("_scale_inv", ".weight_scale", ".qscale_weight", ".scales", ".SCB", ".absmax")


@dataclass(frozen=True)
class StoredQuantization:
    """How the weights are stored."""

    method: str
    """As the configuration calls it; the type of the weights where there is nothing about it."""
    where: str
    """What says so, in words."""
    is_described: bool = True
    """Whether a configuration that llama.cpp's converter reads says how to undo it."""


def check_not_quantized(
    path: Path,
    config: dict[str, Any],
    tensors: Sequence[StoredTensor],
    *,
    allow_requantize: bool,
    keeps_mxfp4: bool,
) -> None:
    """Raise QuantizedSourceError for a folder of quantised weights, unless they may be quantised again.

    MXFP4 passes, too, where what has it `keeps` it: llama.cpp's converter takes it over as it is.
    """
    found = find_quantization(path, config, tensors)
    if found is None or allow_requantize or (found.method == "mxfp4" and keeps_mxfp4):
        return
    advice = "convert the original model"
    if found.method == "mxfp4":
        advice += ", or keep the experts as they are with --tensor-type exps=mxfp4, or pass --allow-requantize"
    elif found.method == OWN:
        advice = f"eoq convert {path} OUT.gguf, without options on types and calibration, makes a GGUF of its codes"
    elif not found.is_described:
        advice += "; nothing that llama.cpp's converter reads says how to unpack the weights"
    elif found.method in _UNPACKED or found.method.startswith("F8_"):
        advice += ", or pass --allow-requantize"
    else:
        advice += "; llama.cpp's converter cannot unpack this kind"
    raise QuantizedSourceError(
        f"the model in {path} is quantised already ({found.method}, {found.where}), and quantising it again adds to "
        f"its error; {advice}"
    )


def has_own_codes(path: Path) -> bool:
    """Whether a folder has EOQ codes, as far as its config.json can be read."""
    if not (path / "config.json").is_file():
        return False
    try:
        content = read_json(path / "config.json", SourceError)
    except SourceError:
        return False
    found = content.get("quantization_config") if isinstance(content, dict) else None
    return isinstance(found, dict) and found.get("quant_method") == OWN


def find_quantization(path: Path, config: dict[str, Any], tensors: Sequence[StoredTensor]) -> StoredQuantization | None:
    """By the configuration, at any depth of it, by ModelOpt's file, or by the weights themselves. None if they are not
    quantised. Raises SourceError."""
    for place, key, value in entries(config):
        if key in _KEYS and value:
            method = (value.get("quant_method") or value.get("quant_algo")) if isinstance(value, dict) else None
            where = f"says {place} of config.json"
            return StoredQuantization(str(method or "unknown method")[:40], where, is_described=place in _READ_PLACES)
    packed = _packed_weights(tensors)
    if (path / MODELOPT).exists():
        content = read_json(path / MODELOPT, SourceError)
        quantization = content.get("quantization") if isinstance(content, dict) else None
        # without an algorithm it is about the cache of keys and values alone
        if packed or (isinstance(quantization, dict) and quantization.get("quant_algo")):
            return StoredQuantization("modelopt", f"says {MODELOPT}")
    if packed:
        has_scales = any(t.name.endswith(_SCALE_ENDS) for t in tensors)
        return StoredQuantization(packed[0].dtype, f"by the type of {packed[0].name}", is_described=not has_scales)
    return None


def _packed_weights(tensors: Sequence[StoredTensor]) -> list[StoredTensor]:
    """Matrices of weights in 8 bits and less, or packed in integers; other integers are tables and masks."""
    return [
        t
        for t in tensors
        if len(t.shape) > 1
        and (t.dtype.startswith(("F8_", "F6_", "F4")) or (t.dtype[0] in "IU" and t.name.endswith(_PACKED_ENDS)))
    ]
