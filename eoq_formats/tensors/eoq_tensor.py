"""A tensor of codes, made of floats and turned back into them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eoq_formats import kernels
from eoq_formats.errors import EoqError, NonFiniteWeightError, ScaleOverflowError
from eoq_formats.tensors.apart import Bytes, Scales, code_bytes, joined, split
from eoq_formats.types import WeightType, weight_type, weight_type_for_row


@dataclass(frozen=True, eq=False)
class EoqTensor:
    """A tensor whose rows, its last axis, are blocks of codes.

    Raises ValueError for arrays that do not belong together.
    """

    packed: Bytes
    """uint8 (…, blocks * code_bytes): the codes in bit planes, block after block."""
    norms: Scales
    """float16 (…, blocks): the scales."""
    type: WeightType

    def __post_init__(self) -> None:
        wanted = (*self.norms.shape[:-1], self.norms.shape[-1] * code_bytes(self.type))
        if self.packed.shape != wanted or self.packed.dtype != np.uint8 or self.norms.dtype != np.float16:
            raise ValueError(
                f"norms {self.norms.dtype} {self.norms.shape} of {self.type.name} go with codes uint8 {wanted}, not "
                f"{self.packed.dtype} {self.packed.shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the weights."""
        return (*self.norms.shape[:-1], self.norms.shape[-1] * self.type.width)

    @property
    def nbytes(self) -> int:
        return self.packed.nbytes + self.norms.nbytes

    @property
    def blocks(self) -> Bytes:
        """The rows as a GGUF file has them: uint8 (…, row bytes)."""
        return joined(self.packed, self.norms, self.type)

    @classmethod
    def of_blocks(cls, rows: Bytes, t: WeightType) -> "EoqTensor":
        """Of the rows of a GGUF file, uint8 (…, row bytes)."""
        return cls(*split(rows, t), t)

    def dequantize(self) -> NDArray[np.float32]:
        """The weights, float32 of `shape`: the same bits from every reader."""
        rows = self.blocks.reshape(-1, self.norms.shape[-1] * self.type.block_bytes)
        return kernels.dequantize(rows, self.type).reshape(self.shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EoqTensor):
            return NotImplemented
        pairs = ((self.packed, other.packed), (self.norms.view(np.uint16), other.norms.view(np.uint16)))
        return self.type == other.type and all(np.array_equal(a, b) for a, b in pairs)

    __hash__ = None  # type: ignore[assignment]  # arrays have none


def quantize(tensor: Any, type: str | WeightType) -> EoqTensor:
    """Round a tensor to nearest: a NumPy array or what becomes one, or a tensor of PyTorch on any device.

    `tensor` has rows, its last axis, in whole blocks; `type` is a name such as `eoq4`, `eoq4t` or `eoq4_64`: without a
    width it is the widest whose blocks divide the rows. Raises UnknownTypeError, EoqError for rows that are no whole
    blocks, NonFiniteWeightError and ScaleOverflowError.
    """
    named = weight_type(type) if isinstance(type, str) else type
    floats = _floats(tensor)
    if floats.size == 0:
        raise EoqError(f"a tensor of shape {floats.shape} has no values, so there is nothing to round")
    length = floats.shape[-1]
    # a family is named after the widest of its types
    fitting = weight_type_for_row(named.name, length) if named.name == named.family else named
    if fitting is None or length % fitting.width:
        raise EoqError(f"rows of {length} weights are no whole blocks of {named.name}; choose a multiple of 64")
    rounded = kernels.quantize(floats.reshape(-1, length), fitting)
    if (rounded.status == kernels.STATUS_NON_FINITE).any():
        raise NonFiniteWeightError(f"cannot quantise to {fitting.name}: the tensor has NaN or infinite values")
    if (rounded.status == kernels.STATUS_SCALE_OVERFLOW).any():
        raise ScaleOverflowError(f"cannot quantise to {fitting.name}: a block needs a larger scale than fp16 has")
    return EoqTensor.of_blocks(rounded.data.reshape(*floats.shape[:-1], -1), fitting)


def dequantize(tensor: EoqTensor) -> NDArray[np.float32]:
    """The weights of a tensor, float32 of its shape."""
    return tensor.dequantize()


def _floats(tensor: Any) -> NDArray[np.float32]:
    if hasattr(tensor, "detach"):  # of PyTorch, which need not be loaded for all others; NumPy has no BF16
        tensor = tensor.detach().float().cpu().numpy()
    return np.ascontiguousarray(tensor, dtype=np.float32)
