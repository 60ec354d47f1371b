"""A Hugging Face model folder: what can be known of it, and refused, before llama.cpp's converter is started."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from converter.ingest.foreign_code import check_no_foreign_code
from converter.ingest.safetensors_folder import MODEL, StoredTensor, read_tensor_list
from converter.ingest.stored_quantization import check_not_quantized
from converter.options import SourceAccess
from converter.statistics.least_size import least_size
from gguf_files.errors import SourceError
from input_files.ordinary import check_ordinary
from input_files.structured import read_json

_OUTTYPES = {"F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "bf16", "F8_E5M2": "bf16"}
_ADAPTER = "adapter_config.json"
_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "auto": 2}
_EMBEDDINGS = re.compile(r"emb|wte|word|tok")
_DOMINANT = 0.99
"""Share of the weights that must be of one type for the others to be rounded to it."""


@dataclass(frozen=True)
class Layout:
    """How a format calls the files of a model."""

    config: str
    weights: str
    """How the names of safetensors begin."""


TRANSFORMERS = Layout("config.json", MODEL)
MISTRAL = Layout("params.json", "consolidated")


def layout_of(access: SourceAccess) -> Layout:
    """The format that a folder is read in; some have their model in both."""
    return MISTRAL if access.is_mistral_format else TRANSFORMERS


@dataclass(frozen=True)
class HfFolder:
    """A model folder that has passed the checks."""

    path: Path
    outtype: str
    """What llama.cpp's converter is asked for, so that no precision is lost without need."""
    tensors: tuple[StoredTensor, ...]
    """Empty for a model in PyTorch's own format, whose files are not looked into."""
    stored_bytes: int
    """Bytes of all files that hold weights."""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """What config.json holds, or params.json of Mistral's format."""
    layout: Layout = TRANSFORMERS

    @property
    def gguf_bytes(self) -> int:
        """About how large the GGUF gets that llama.cpp's converter makes."""
        if not self.tensors:
            return self.stored_bytes
        return sum(t.weights * (_BYTES[self.outtype] if len(t.shape) > 1 else 4) for t in self.tensors)

    @property
    def weights(self) -> int:
        """How many weights there are, or at least are likely to be."""
        return sum(t.weights for t in self.tensors) or self.stored_bytes // 4

    @property
    def least_statistics_bytes(self) -> int:
        """How large the statistics of a calibration get at the least."""
        # experts in one tensor stand with rows and columns in either order
        rows = ((t, min(t.shape[-2:]) if len(t.shape) > 2 else t.shape[-1]) for t in self.tensors if len(t.shape) > 1)
        return least_size((t.name, row_length, prod(t.shape[:-2])) for t, row_length in rows)


def read_hf_folder(
    path: Path, allow_requantize: bool, keeps_mxfp4: bool = False, layout: Layout = TRANSFORMERS
) -> HfFolder:
    """Look at a model folder without starting anything heavy. Raises SourceError or QuantizedSourceError.

    Weights that are quantised already are refused unless they may be quantised again, or are MXFP4 and stay so.
    """
    config = read_config(path, layout)
    tensors = tuple(read_tensor_list(path, layout.weights))
    check_not_quantized(path, config, tensors, allow_requantize=allow_requantize, keeps_mxfp4=keeps_mxfp4)
    _check_head(path, config, tensors)
    files = {t.file.path for t in tensors} or set(path.glob("pytorch_model*.bin"))
    if layout is MISTRAL and not tensors:
        raise _no_model(path, f"it has no weights in Mistral's format, {MISTRAL.weights}*.safetensors")
    if not files:
        raise _no_model(path, "it has no weights, neither model*.safetensors nor pytorch_model*.bin")
    outtype = _outtype(tensors) if tensors else _outtype_of_config(config)
    return HfFolder(path, outtype, tensors, sum(file.stat().st_size for file in files), config, layout)


def read_config(folder: Path, layout: Layout = TRANSFORMERS) -> dict[str, Any]:
    """The configuration of a model folder, which may lack its weights. Raises SourceError.

    Refused are other folders, and configurations that name no architecture or load code from elsewhere.
    """
    _check_contents(folder, layout)
    path = folder / layout.config
    config = read_json(path, SourceError)
    if not isinstance(config, dict):
        raise SourceError(f"{path} is not a JSON object; give the folder of a Hugging Face model")
    check_no_foreign_code(path, config)
    if layout is TRANSFORMERS and not config.get("architectures") and "ssm_cfg" not in config:
        raise SourceError(f"{path} names no architecture (its key architectures is missing or empty)")
    return config


def _check_contents(path: Path, layout: Layout) -> None:
    try:
        entries = sorted(path.iterdir())
    except OSError as e:
        raise SourceError(f"the folder {path} cannot be read: {e.strerror}") from None
    for entry in entries:
        # llama.cpp's converter would wait for a pipe
        if entry.exists() and not entry.is_dir():
            check_ordinary(entry, SourceError)
    names = [entry.name for entry in entries]
    if not names:
        raise SourceError(f"the folder {path} is empty")
    if layout.config not in names:
        raise _no_model(path, f"it has no {layout.config}")


def _no_model(path: Path, why: str) -> SourceError:
    """The error for a folder of something else, with what to give in place of it where that can be told."""
    if (path / _ADAPTER).exists():
        content = read_json(path / _ADAPTER, SourceError)
        base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
        return SourceError(
            f"the folder {path} is an adapter (LoRA or the like) of {base or 'a model that it does not name'}, and no "
            "model by itself; merge it into that model with merge_and_unload of PEFT, save the result, and give its "
            "folder"
        )
    ggufs = sorted(path.glob("*.gguf"))
    advice = f"; did you mean {ggufs[0]}?" if ggufs else ""
    return SourceError(f"the folder {path} is no Hugging Face model: {why}{advice}")


def _check_head(path: Path, config: dict[str, Any], tensors: tuple[StoredTensor, ...]) -> None:
    """Refuse a language model whose output is not in its files, though the configuration says that it is its own.

    llama.cpp would take the embeddings for it.
    """
    text = config.get("text_config")
    told = {**config, **(text if isinstance(text, dict) else {})}
    vocabulary, tied = told.get("vocab_size"), told.get("tie_word_embeddings")
    names = config.get("architectures") or [""]
    if tied is not False or not str(names[0]).endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
        return
    tables = [t for t in tensors if len(t.shape) == 2 and t.shape[0] == vocabulary]
    if len(tables) == 1 and _EMBEDDINGS.search(tables[0].name):
        raise SourceError(
            f"the model in {path} lacks its output matrix: config.json says that the embeddings do not serve as such "
            f"(tie_word_embeddings), and {tables[0].name} is the only matrix of {vocabulary} rows; get all files "
            "again, or set tie_word_embeddings to true if they do"
        )


def _outtype(tensors: tuple[StoredTensor, ...]) -> str:
    """The type of nearly all matrices; f32 where no 16-bit type holds them all; the converter's guess if packed."""
    counts: Counter[str] = Counter()
    for t in tensors:
        if len(t.shape) > 1:
            counts[_OUTTYPES.get(t.dtype, "auto")] += t.weights
    if not counts or counts["auto"] > (1 - _DOMINANT) * counts.total():
        return "auto"
    outtype, count = counts.most_common(1)[0]
    return outtype if count >= _DOMINANT * counts.total() else "f32"


def _outtype_of_config(config: dict[str, Any]) -> str:
    dtype = config.get("dtype") or config.get("torch_dtype") or "float32"
    return {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(str(dtype), "auto")
