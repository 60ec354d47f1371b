"""The model and its tokenizer as transformers knows them, from a Hugging Face folder or a GGUF."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from converter.calibrate.bfloat16_matrices import use_bfloat16_matrices
from converter.calibrate.gguf_model import model_from_gguf
from converter.calibrate.gguf_tokenizer import Encode, bos_tokens, gguf_tokenizer
from converter.errors import CalibrationError
from converter.options import CalibrationOptions
from gguf_files.source import Source

WAYS_OUT = "pass --imatrix FILE made by llama-imatrix, or --rtn to do without calibration"


@dataclass(frozen=True)
class LoadedModel:
    """A model that can be run, with what makes tokens of text for it."""

    network: Any
    """A transformers model on the chosen device, in the chosen type, for inference."""
    encode: Encode
    """From text to token ids, without marks."""
    before: list[int]
    """Marks before a sequence."""
    after: list[int]
    longest: int | None
    """Most positions that the model knows, where its configuration tells."""


def load_model(path: Path, source: Source, options: CalibrationOptions, threads: int) -> LoadedModel:
    """Load what the user named: a Hugging Face folder, or the GGUF itself. Raises CalibrationError.

    No code of the model's own is run, and nothing is downloaded.
    """
    bfloat16 = options.dtype == "bfloat16"
    device = _device(options.device)
    with _quiet(), _explained(path):
        if path.is_dir():
            model = _model_from_folder(path, bfloat16)
            encode, before, after = _tokenizer_of_folder(path)
        else:
            model = model_from_gguf(path, source, bfloat16, threads)
            encode, before, after = gguf_tokenizer(source), bos_tokens(source), []
    if getattr(model.config, "is_encoder_decoder", False):
        raise CalibrationError(f"{path} is an encoder-decoder model, which calibration cannot run; {WAYS_OUT}")
    try:
        model = model.to(device).eval()
    except torch.OutOfMemoryError:
        raise _too_little_memory(options) from None
    text_config = model.config.get_text_config()
    longest = getattr(text_config, "max_position_embeddings", None)
    return LoadedModel(model, encode, before, after, longest if isinstance(longest, int) else None)


def _too_little_memory(options: CalibrationOptions) -> CalibrationError:
    return CalibrationError(
        f"the model does not fit into the memory of {options.device} in {options.dtype}; calibrate on the CPU, or with "
        "--calib-dtype bfloat16"
    )


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as e:
        reason = str(e).splitlines()[0]
        raise CalibrationError(f"PyTorch cannot use the device {name!r} here ({reason}); choose cpu") from None
    return device


def _model_from_folder(folder: Path, bfloat16: bool) -> Any:
    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    has_head = type(config) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    encoder = not any("CausalLM" in name or "Conditional" in name for name in config.architectures or ())
    auto = transformers.AutoModelForCausalLM if has_head and not encoder else transformers.AutoModel
    # weights that are in bfloat16 lose nothing, and need not be held in float32 first
    dtype = torch.bfloat16 if bfloat16 and config.dtype == torch.bfloat16 else torch.float32
    model, info = auto.from_pretrained(
        folder, config=config, dtype=dtype, trust_remote_code=False, local_files_only=True, output_loading_info=True
    )
    missing = [name for name in info["missing_keys"] if "pooler" not in name]
    if missing:
        raise CalibrationError(f"the model in {folder} lacks weights that transformers asks for, such as {missing[0]}")
    if bfloat16:
        use_bfloat16_matrices(model)
    return model


def _tokenizer_of_folder(folder: Path) -> tuple[Encode, list[int], list[int]]:
    """The tokenizer, and the tokens before and after a sequence, such as BOS, or [CLS] and [SEP]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    def encode(text: str, marks: bool = False) -> list[int]:
        return list(tokenizer(text, add_special_tokens=marks, verbose=False)["input_ids"])

    plain, marked = encode("a"), encode("a", marks=True)
    start = next((i for i in range(len(marked)) if marked[i : i + len(plain)] == plain), None)
    return encode, marked[:start] if start else [], [] if start is None else marked[start + len(plain) :]


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Make CalibrationError of the many errors that transformers raises for models it cannot load."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AttributeError) as e:
        lines = str(e).strip().splitlines()
        reason = lines[0][:300] if lines else type(e).__name__
        way = "" if path.is_dir() else "give the Hugging Face folder in place of the GGUF, "
        raise CalibrationError(f"transformers cannot load {path} for calibration ({reason}); {way}{WAYS_OUT}") from e


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing: what matters is checked and told in our own words."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    level = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers.utils.logging.set_verbosity(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
