"""The weights of a folded model: producers divided by the scales of their groups, consumers' columns multiplied."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import quantize
from numpy.typing import NDArray

from converter.scaling.fold_groups import FoldGroup, Producer
from converter.statistics import DerivedStatistics, Statistics
from eoq_formats.errors import ScaleOverflowError
from gguf_files.finite import check_finite
from gguf_files.tensor_types import FLOAT_TYPES
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Bytes, Floats, WeightReader


@dataclass(frozen=True)
class Fold:
    """The scales of one group."""

    group: FoldGroup
    scales: Floats
    """float32 (experts, sources), positive: one for each channel of the producers."""
    alpha: float = 0.0
    """Exponent of the inputs' root mean square in the scales."""
    beta: float = 0.0
    """Exponent of the weights' root mean square, by which the scales are divided."""
    refined: bool = False
    """Whether the scales went on from there along the slopes of the expected error."""
    error_before: float | None = None
    """Rounding error of the consumers' outputs without the fold, on a sample of rows, squared and relative to the
    outputs, summed over consumers; None if not measured."""
    error_after: float | None = None

    def __post_init__(self) -> None:
        expected = (self.group.experts, self.group.sources)
        if self.scales.shape != expected or not (np.isfinite(self.scales) & (self.scales > 0)).all():
            raise ValueError(f"{self.group.name}: scales must be positive, of shape {expected}")

    @property
    def channel_scales(self) -> Floats:
        """float32 (experts, channels): the factor of each input column of the consumers."""
        return self.scales[:, self.group.source_of_channel]

    @property
    def is_identity(self) -> bool:
        return bool((self.scales == 1).all())


@dataclass
class _Factors:
    """What the elements of one tensor are multiplied with and divided by."""

    columns: Floats | None = None
    """float32 (experts or 1, row length)"""
    divisors: Floats | None = None
    """float32 (rows,)"""
    vector: Floats | None = None
    """float32 (experts or 1, row length): divisors of the elements of a norm or bias"""


@dataclass
class Folded:
    """A model's weights after folding, as a reader that stands between the source and rounding."""

    weights: WeightReader
    folds: Sequence[Fold]
    _factors: dict[str, _Factors] = field(init=False, default_factory=dict)
    _buffer: Floats = field(init=False, default_factory=lambda: np.empty(0, dtype=np.float32))

    def __post_init__(self) -> None:
        for fold in self.folds:
            if fold.is_identity:
                continue
            for consumer in fold.group.consumers:
                factors = self._factors.setdefault(consumer.name, _Factors())
                if factors.columns is not None:
                    raise ValueError(f"two folds scale the columns of {consumer.name}")
                factors.columns = fold.channel_scales
            for producer in fold.group.producers:
                self._divide(producer, fold)

    def _divide(self, producer: Producer, fold: Fold) -> None:
        tensor = producer.tensor
        factors = self._factors.setdefault(tensor.name, _Factors())
        if factors.divisors is not None or factors.vector is not None:
            raise ValueError(f"two folds divide {tensor.name}")
        length = tensor.row_length if producer.is_vector else tensor.shape[1]
        divisors = np.ones((fold.group.experts, length), dtype=np.float32)
        divisors[:, producer.first : producer.first + fold.group.sources] = fold.scales
        if producer.is_vector:
            factors.vector = divisors
        else:
            factors.divisors = divisors.reshape(-1)

    def touches(self, name: str) -> bool:
        """Whether the fold changes this tensor."""
        return name in self._factors

    def input_scales(self, name: str) -> Floats | None:
        """float32 (experts or 1, row length): what the tensor's inputs are divided by; None if they stay the same."""
        factors = self._factors.get(name)
        return None if factors is None else factors.columns

    def read(self, tensor: TensorInfo, start: int, stop: int) -> Floats:
        """Rows [start, stop) as float32 (rows, row length), valid until the next call."""
        rows = self.weights.read(tensor, start, stop)
        factors = self._factors.get(tensor.name)
        if factors is None:
            return rows
        if self._buffer.size < rows.size:
            self._buffer = np.empty(rows.size, dtype=np.float32)
        folded = self._buffer[: rows.size].reshape(rows.shape)
        scaled = rows
        if factors.divisors is not None:
            scaled = np.divide(rows, factors.divisors[start:stop, None], out=folded)
        if factors.vector is not None:
            scaled = _by_expert(np.divide, scaled, factors.vector, tensor, start, folded)
        if factors.columns is not None:
            scaled = _by_expert(np.multiply, scaled, factors.columns, tensor, start, folded)
        return scaled

    def stored(self, tensor: TensorInfo, start: int, stop: int) -> Bytes:
        """Rows [start, stop) in the tensor's own type, uint8 (rows, row bytes), for norms, biases and routers.

        For plain floats only: fold_groups leaves out what is `fixed`. Raises NonFiniteWeightError, and
        ScaleOverflowError where a scaled weight is too large for the type.
        """
        if tensor.type not in FLOAT_TYPES:
            raise ValueError(f"{tensor.name} is of type {tensor.type.name} and cannot be scaled")
        rows = self.read(tensor, start, stop)
        check_finite(np.isfinite(rows), tensor, range(start, start + len(rows)))
        with np.errstate(over="ignore"):
            data = _as_type(rows, tensor.type)
        if tensor.type == GGMLQuantizationType.F16 and (np.isinf(data.view(np.float16)) & np.isfinite(rows)).any():
            raise ScaleOverflowError(
                f"tensor {tensor.name}: a weight that AWQ scaled is too large for f16; convert with --awq off"
            )
        return data


def _by_expert(
    operation: np.ufunc, rows: Floats, factors: Floats, tensor: TensorInfo, start: int, out: Floats
) -> Floats:
    """Apply (experts or 1, row length) factors to rows that begin at row `start` of the tensor."""
    if len(factors) == 1:
        operation(rows, factors, out=out)
        return out
    each = tensor.rows // len(factors)
    done = 0
    while done < len(rows):
        expert, row = divmod(start + done, each)
        step = min(each - row, len(rows) - done)
        operation(rows[done : done + step], factors[expert], out=out[done : done + step])
        done += step
    return out


def _as_type(rows: Floats, kind: GGMLQuantizationType) -> Bytes:
    if kind == GGMLQuantizationType.F32:
        return rows.copy().view(np.uint8)
    if kind == GGMLQuantizationType.F64:
        return rows.astype(np.float64).view(np.uint8)
    if kind == GGMLQuantizationType.F16:
        return rows.astype(np.float16).view(np.uint8)
    return np.ascontiguousarray(quantize(rows, kind)).view(np.uint8)


class FoldedStatistics(DerivedStatistics):
    """Moments of the inputs that the folded model has: each channel divided by its scale.

    Tensors of one input are folded together, so they still share it.
    """

    def __init__(self, statistics: Statistics, folded: Folded) -> None:
        super().__init__(statistics)
        self.folded = folded

    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        diagonal, scales = self.statistics.diagonal(tensor_name), self.folded.input_scales(tensor_name)
        return diagonal if scales is None else diagonal / np.square(scales, dtype=np.float64)

    def moments(self, tensor_name: str, expert: int = 0) -> Floats | None:
        moments, scales = self.statistics.moments(tensor_name, expert), self.folded.input_scales(tensor_name)
        if moments is not None and scales is not None:
            scale_moments(moments, scales[expert if len(scales) > 1 else 0])
        return moments

    def pooled_moments(self, tensor_name: str, expert: int) -> Floats:
        """Pooled before the scales, which are each expert's own, and then divided by those of this one."""
        pooled, scales = self.statistics.pooled_moments(tensor_name, expert), self.folded.input_scales(tensor_name)
        if scales is not None:
            scale_moments(pooled, scales[expert if len(scales) > 1 else 0])
        return pooled


def scale_moments(moments: Floats, scales: Floats) -> None:
    """Turn moments float32 (n, n), or their diagonal (n,), into those of the input divided by `scales` float32 (n,)."""
    moments /= scales
    moments /= scales if moments.ndim == 1 else scales[:, None]
