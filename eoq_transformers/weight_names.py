"""From the names of a checkpoint's layers to the parameters of a model, as transformers itself maps them.

Version 4 renames keys; version 5 also merges the matrices of experts into one parameter.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import transformers

from eoq_transformers.description import PARTS, FormatError

IS_5 = int(transformers.__version__.partition(".")[0]) >= 5
_WEIGHT = ".weight"


@dataclass(frozen=True)
class Place:
    """A parameter of a model, and the layers of the checkpoint that it is made of."""

    parameter: str
    sources: tuple[str, ...]


def places(model: Any, layers: Iterable[str]) -> dict[str, Place]:
    """The parameter that each layer's codes belong to, by its name. Raises FormatError for a layer without one."""
    layers = list(layers)
    known = set(model.state_dict())
    candidates = [key for name in layers for key in (name + _WEIGHT, name)]
    renamed = _renamed_5(model, candidates) if IS_5 else _renamed_4(model, candidates)
    found: dict[str, list[str]] = {}
    for name in layers:
        keys = [renamed[key] for key in (name + _WEIGHT, name) if renamed[key] in known]
        if not keys:
            raise FormatError(
                f"the folder has codes of {name}, and a {type(model).__name__} has no such layer; load it by the class "
                "that its config.json names"
            )
        found.setdefault(keys[0], []).append(name)
    return {key: Place(key, tuple(names)) for key, names in found.items()}


def _renamed_4(model: Any, keys: list[str]) -> dict[str, str]:
    prefix = model.base_model_prefix
    has_prefix = bool(prefix) and any(key.startswith(prefix) for key in keys)
    expects_prefix = bool(prefix) and hasattr(model, prefix)
    mapping = getattr(model, "_checkpoint_conversion_mapping", None) or None
    arguments = keys, mapping, has_prefix and not expects_prefix, expects_prefix and not has_prefix
    renamed: dict[str, str] = model._get_key_renaming_mapping(*arguments)
    return {key: renamed.get(key, "") for key in keys}


def _renamed_5(model: Any, keys: list[str]) -> dict[str, str]:
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    transforms = get_model_conversion_mapping(model)
    renamings = [t for t in transforms if isinstance(t, WeightRenaming)]
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    state = model.state_dict()
    arguments = renamings, converters, model.base_model_prefix, state
    return {key: rename_source_key(key, *arguments)[0] for key in keys}


def with_codes(conversions: list[Any]) -> list[Any]:
    """The conversions of transformers 5, and for each that makes one parameter of weights the same for their codes.

    Merging and joining go along experts and rows, and codes are by rows.
    """
    from transformers.core_model_loading import WeightConverter

    more = []
    for conversion in conversions:
        sources = getattr(conversion, "_original_source_patterns", [])
        targets = getattr(conversion, "_original_target_patterns", [])
        if not isinstance(conversion, WeightConverter) or len(targets) != 1:
            continue
        if all(source.endswith(_WEIGHT) for source in sources):
            for part in PARTS:
                renamed = [f"{source.removesuffix(_WEIGHT)}.{part}" for source in sources]
                target = f"{targets[0].removesuffix(_WEIGHT)}.{part}"
                more.append(conversion.copy(renamed, [target], operations=list(conversion.operations)))
    return [*more, *conversions]


def nearest_name(key: str, names: Mapping[str, Any]) -> str:
    """The name that has the longest end in common with a key of the model. Raises FormatError where several have."""
    parts = key.split(".")
    for start in range(len(parts)):
        end = ".".join(parts[start:])
        fitting = [name for name in names if name == end or name.endswith("." + end)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            break
    raise FormatError(f"it cannot be told which tensor of the folder {key} is; load the model by its own class")
