"""Keys of a config.json that make transformers load code or models from elsewhere when it reads the configuration."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gguf_files.errors import SourceError

_BUILT_IN_ATTENTION = ("eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4")
"""Kinds of attention that transformers has itself. Any other name is of a kernel, which it would download and run."""
_LOADS_ANOTHER = ("backbone", "backbone_kwargs", "use_timm_backbone", "keypoint_detector_config")
"""Settings of models that are built around another one, which their configuration loads by its name."""


def check_no_foreign_code(path: Path, config: dict[str, Any]) -> None:
    """Refuse a configuration with such a key anywhere in it. Raises SourceError."""
    for where, key, value in entries(config):
        if reason := _reason(key, value):
            raise SourceError(f"{path} has {where} = {_shown(value)}, {reason}; remove it if you trust the model")


def _reason(key: str, value: object) -> str:
    if key == "trust_remote_code" and value not in (False, None):
        return "which asks for code of the model's own to be run"
    if key.lstrip("_") == "attn_implementation" or key.endswith("attn_implementation_internal"):
        names = value.values() if isinstance(value, dict) else [value]
        if any(name is not None and name not in _BUILT_IN_ATTENTION for name in names):
            return "which names a kernel to be downloaded and run"
    if key in _LOADS_ANOTHER and value not in (False, None):
        return "which loads another model by its name"
    return ""


def entries(config: object) -> Iterator[tuple[str, str, object]]:
    """All keys with where they stand, `text_config.backbone`, and what they hold. Without recursion: files may nest."""
    waiting = [(config, "")]
    while waiting:
        one, where = waiting.pop()
        if isinstance(one, dict):
            for key, inner in one.items():
                place = f"{where}.{key}" if where else str(key)
                yield place, str(key), inner
                waiting.append((inner, place))
        elif isinstance(one, list):
            waiting += [(inner, f"{where}[{i}]") for i, inner in enumerate(one)]


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
