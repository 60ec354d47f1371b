"""Tensors into safetensors files of bounded size, with an index where there are several."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from hf_export.errors import ExportError

_DTYPES = {
    **{"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "BOOL": torch.bool},
    **{"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8},
}


@dataclass(frozen=True)
class Tensor:
    """A tensor with its bytes."""

    name: str
    dtype: str
    """As safetensors writes it."""
    shape: tuple[int, ...]
    data: bytes

    @property
    def values(self) -> torch.Tensor:
        """Raises ExportError for a type that PyTorch has not."""
        dtype = _DTYPES.get(self.dtype)
        if dtype is None:
            raise ExportError(f"the tensor {self.name} is {self.dtype}, which is not exported; give the original model")
        return torch.frombuffer(bytearray(self.data), dtype=dtype).reshape(self.shape)


class ShardWriter:
    """Collects tensors until a file is full. Of them all, one file is in memory."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most = folder, most_bytes
        self._tensors: list[Tensor] = []
        self._held = 0
        self._files: list[tuple[Path, list[str]]] = []
        self.nbytes = 0

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Tensors that stand in one file."""
        together = list(tensors)
        size = sum(len(t.data) for t in together)
        if self._tensors and self._held + size > self._most:
            self._write()
        self._tensors += together
        self._held += size
        self.nbytes += size

    def finish(self) -> None:
        """Write what is left, give the files their names, and write the index."""
        self._write()
        if len(self._files) == 1:
            self._files[0][0].rename(self._folder / "model.safetensors")
            return
        weights: dict[str, str] = {}
        for number, (path, names) in enumerate(self._files, 1):
            file = self._folder / f"model-{number:05}-of-{len(self._files):05}.safetensors"
            path.rename(file)
            weights |= dict.fromkeys(names, file.name)
        index = {"metadata": {"total_size": self.nbytes}, "weight_map": dict(sorted(weights.items()))}
        (self._folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")

    def _write(self) -> None:
        path = self._folder / f"{len(self._files) + 1}.part"
        path.touch()
        mode = path.stat().st_mode
        save_file({t.name: t.values for t in self._tensors}, path, metadata={"format": "pt"})
        path.chmod(mode)  # the library leaves it to its owner alone
        self._files.append((path, [t.name for t in self._tensors]))
        self._tensors, self._held = [], 0
