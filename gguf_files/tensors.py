"""What there is to know of a tensor without its weights or its file."""

from dataclasses import dataclass
from math import prod

from gguf import GGMLQuantizationType

from gguf_files.tensor_types import row_bytes


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a model under its GGUF name."""

    name: str
    shape: tuple[int, ...]
    """ggml's order: the row length first."""
    type: GGMLQuantizationType

    @property
    def row_length(self) -> int:
        return self.shape[0]

    @property
    def rows(self) -> int:
        """Rows over all matrices of the tensor."""
        return prod(self.shape[1:])

    @property
    def matrices(self) -> int:
        """Matrices that it holds: one for each expert, or one."""
        return self.shape[2] if len(self.shape) > 2 else 1

    @property
    def weights(self) -> int:
        return prod(self.shape)

    @property
    def dimensions(self) -> int:
        """Dimensions that count: ones at the end do not."""
        used = [i for i, size in enumerate(self.shape) if size != 1]
        return used[-1] + 1 if used else 1

    @property
    def nbytes(self) -> int:
        return row_bytes(self.type, self.row_length) * self.rows
