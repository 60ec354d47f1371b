"""The model of the speed comparison in every type. All matrices have the type that the file is named after.

That goes for token embeddings and output, too: EOQ gets `output_type` and `token_embd_type`, llama-quantize `--pure`,
and no file is used without a look at its types. Only norms and the routers of experts stay F32.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.inference.synthetic_model import Shape, is_quantised, write_model
from bench.tool_command import tool_command
from eoq_formats.types import WEIGHT_TYPES
from gguf_files.mapped import MappedGguf
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
    "Q3_K": "Q3_K_S",
    "Q2_K": "Q2_K",
}
"""What llama-quantize calls a file of a type; those that it quantises without an importance matrix."""

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
            output_of(self._convert(type, partial) if type in EOQ_TYPES else self._quantize(type, partial))
        partial.with_suffix(".report.json").unlink(missing_ok=True)  # the converter's
        partial.replace(target)
        return self._described(type, target)

    def _path(self, type: str) -> Path:
        return self.folder / f"{type}.gguf"

    def _convert(self, type: str, target: Path) -> list[str]:
        # a process of its own: no threads and no memory of the converter are left when speed is measured
        command = tool_command("convert_eoq.py", self._path("F16"), target)
        name = type.lower()
        types = ["--type", name, "--output-type", name, "--token-embd-type", name]
        return [*command, "--rtn", "--quiet", "--threads", str(self.threads), *types]

    def _quantize(self, type: str, target: Path) -> list[str]:
        command = [str(self.programs / "llama-quantize"), "--pure", str(self._path("F16")), str(target)]
        return [*command, LLAMA_TYPES[type], str(self.threads)]

    def _described(self, type: str, path: Path) -> ModelFile:
        tensors = [TensorInfo(t.name, t.shape, t.type) for t in MappedGguf(path).header.tensors]
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
