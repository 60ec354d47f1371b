"""The files of a folder: found as transformers finds them, their heads read before any weight."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from eoq_transformers.description import FormatError, Stored
from input_files.ordinary import check_ordinary
from input_files.structured import read_json

_WHOLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Checkpoint:
    """What a folder's files hold."""

    stored: Mapping[str, Stored]
    """Tensors by name."""
    files: Mapping[str, Path]
    """The file of each."""

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self.files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
            return tensor


def read_heads(paths: Iterable[Path]) -> Checkpoint:
    """Raises FormatError for files that are missing or damaged."""
    stored: dict[str, Stored] = {}
    files: dict[str, Path] = {}
    for path in paths:
        check_ordinary(path, FormatError)
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 — the library's, which cannot be iterated over
                    tensor = file.get_slice(name)
                    stored[name] = Stored(tensor.get_dtype(), tuple(tensor.get_shape()))
                    files[name] = path
        except (SafetensorError, OSError) as e:
            raise FormatError(f"{path} is cut short or damaged ({e}); get it again") from None
    return Checkpoint(stored, files)


def checkpoint_paths(model: Any, given: Iterable[str] | None) -> list[Path]:
    """The safetensors files that a model is being loaded from; transformers 5 tells them, 4 does not.

    Raises FormatError.
    """
    if given is not None:
        return [Path(file) for file in given]
    name = str(getattr(model.config, "name_or_path", "") or "")
    folder = Path(name)
    if name and folder.is_dir():
        return folder_paths(folder)
    return [Path(file) for file in _downloaded(name, getattr(model.config, "_commit_hash", None))]


def folder_paths(folder: Path) -> list[Path]:
    """The files with the weights of a folder. Raises FormatError where one is missing."""
    if (folder / _WHOLE).exists():
        return [folder / _WHOLE]
    if not (folder / _INDEX).exists():
        raise FormatError(f"the folder {folder} has neither {_WHOLE} nor {_INDEX}; get its files again")
    paths = [folder / file for file in _indexed(folder / _INDEX)]
    missing = [path.name for path in paths if not path.exists()]
    if missing:
        raise FormatError(f"the folder {folder} lacks {', '.join(missing)}, which {_INDEX} names; get its files again")
    return paths


def _indexed(path: Path) -> list[str]:
    content = read_json(path, FormatError)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
        raise FormatError(f"{path} has no weight_map of tensors to files; get it again")
    files = sorted(set(named.values()))
    for file in files:
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise FormatError(f"{path} points to {file[:80]!r}, which is no file of its folder; get it again")
    return files


def _downloaded(name: str, commit: str | None) -> list[str]:
    """From the cache of the hub, where transformers has put them by now."""
    from transformers.utils import cached_file

    def find(file: str) -> str | None:
        found: str | None = cached_file(
            name, file, revision=commit, local_files_only=True, _raise_exceptions_for_missing_entries=False
        )
        return found

    whole = find(_WHOLE)
    if whole is not None:
        return [whole]
    index = find(_INDEX)
    if index is None:
        raise FormatError(f"the safetensors files of {name} are not there; give the folder of the model")
    return [str(Path(index).with_name(file)) for file in _indexed(Path(index))]
