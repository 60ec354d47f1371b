"""The model of the speed comparison in every type. All matrices have the type that the file is named after.

llama-quantize makes them with `--pure`, so that goes for token embeddings and output, too, and no file is used without
a look at its types. Only norms and the routers of experts stay F32.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.inference.synthetic_model import Shape, is_quantised, write_imatrix, write_model
from eoq_formats.types import WEIGHT_TYPES
from gguf_files.gguf_file import GgufFile
from gguf_files.names import TOKEN_EMBEDDINGS
from gguf_files.tensor_types import type_name
from gguf_files.tensors import TensorInfo
from llama_programs.run import output_of

EOQ_TYPES = tuple(t.name for t in WEIGHT_TYPES)

LLAMA_TYPES = {
    "F16": "F16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K": "Q5_K_S",
    "Q4_K": "Q4_K_S",
    "Q4_0": "Q4_0",
    "IQ4_XS": "IQ4_XS",
    "IQ4_NL": "IQ4_NL",
    "IQ3_S": "IQ3_S",
    "Q3_K": "Q3_K_S",
    "IQ2_XXS": "IQ2_XXS",
    "Q2_K": "Q2_K",
}
"""What llama-quantize calls a file of a type; those of EOQ have its name."""
_WITH_IMATRIX = ("IQ2_XXS",)
"""Those that it does not make without an importance matrix."""

DEFAULT_TYPES = (
    *(f"EOQ{bits}" for bits in (2, 3, 4, 5, 6)),
    *("Q3_K", "IQ4_XS", "Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "F16"),
)


@dataclass(frozen=True)
class ModelFile:
    """One file."""

    type: str
    path: Path
    bytes_per_weight: float
    """Over its matrices."""
    bytes_per_token: int
    """What generation of a token reads: all weights but the embeddings of other tokens and the experts not used."""


@dataclass(frozen=True)
class ModelFiles:
    """Makes files in a folder, each once."""

    shape: Shape
    folder: Path
    programs: Path
    """The folder of llama-quantize."""
    threads: int

    def make(self, type: str) -> ModelFile:
        """The file of a type, made if it is not there. Raises EoqError."""
        target = self._path(type)
        if target.exists():
            return self._described(type, target)
        if type != "F16":
            self.make("F16")
        print(f"==> making {target}", file=sys.stderr, flush=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part.gguf")  # nothing unfinished is taken for a model
        if type == "F16":
            write_model(self.shape, partial)
        else:
            output_of(self._quantize(type, partial))
        partial.replace(target)
        return self._described(type, target)

    def _path(self, type: str) -> Path:
        return self.folder / f"{type}.gguf"

    def _quantize(self, type: str, target: Path) -> list[str]:
        imatrix: list[str] = []
        if type in _WITH_IMATRIX:
            imatrix = ["--imatrix", str(self.folder / "imatrix.gguf")]
            write_imatrix(self.shape, self.folder / "imatrix.gguf")
        command = [str(self.programs / "llama-quantize"), "--pure", *imatrix, str(self._path("F16")), str(target)]
        return [*command, LLAMA_TYPES.get(type, type), str(self.threads)]

    def _described(self, type: str, path: Path) -> ModelFile:
        tensors = [TensorInfo(t.name, t.shape, t.type) for t in GgufFile(path).header.tensors]
        matrices = [t for t in tensors if is_quantised(t.name, len(t.shape))]
        for t in matrices:
            if type_name(t.type) != type.lower():
                raise BenchError(
                    f"{t.name} in {path} is {type_name(t.type)}, not {type}; delete the file and run again"
                )
        return ModelFile(
            type=type,
            path=path,
            bytes_per_weight=sum(t.nbytes for t in matrices) / sum(t.weights for t in matrices),
            bytes_per_token=sum(bytes_read(t, self.shape) for t in tensors),
        )


def bytes_read(tensor: TensorInfo, shape: Shape) -> int:
    """Bytes of a tensor that generation of one token reads."""
    if tensor.name == TOKEN_EMBEDDINGS:
        return tensor.nbytes // tensor.rows
    if tensor.name.endswith("_exps.weight"):
        return tensor.nbytes // shape.experts * shape.experts_used
    return tensor.nbytes
