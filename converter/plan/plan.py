"""What a planner decides: a type for each tensor, and why."""

from dataclasses import dataclass

from gguf import GGMLQuantizationType

from converter.type_choice import ORDINARY_TYPES
from eoq_formats.types import WeightType
from gguf_files.errors import QuantizedSourceError, SourceError
from gguf_files.names import BLOCK
from gguf_files.tensor_types import bits_per_weight, can_dequantize, eoq_type, is_quantized, row_bytes, type_name
from gguf_files.tensors import TensorInfo


@dataclass(frozen=True)
class TensorPlan:
    """The type that a tensor gets."""

    tensor: TensorInfo
    type: GGMLQuantizationType
    why: str
    """What led to the type, in a few words."""
    fallback: bool = False
    """Whether the type stands in for one that does not fit the tensor."""
    is_fixed: bool = False
    """Whether an option names the type for this tensor."""

    @property
    def is_copy(self) -> bool:
        """Whether the bytes of the tensor stay what they are."""
        return int(self.type) == int(self.tensor.type)

    @property
    def nbytes(self) -> int:
        return row_bytes(self.type, self.tensor.row_length) * self.tensor.rows

    @property
    def bits_per_weight(self) -> float:
        return bits_per_weight(self.type)


@dataclass(frozen=True)
class Plan:
    """Types for all tensors of a model, in the order of its file."""

    tensors: tuple[TensorPlan, ...]
    file_type: WeightType
    """The type that names the file (general.file_type)."""

    @property
    def outputs(self) -> list[TensorInfo]:
        """The tensors as they are to be written."""
        return [TensorInfo(t.tensor.name, t.tensor.shape, t.type) for t in self.tensors]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors, padding aside."""
        return sum(t.nbytes for t in self.tensors)

    @property
    def weights(self) -> int:
        return sum(t.tensor.weights for t in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Mean over all tensors."""
        return 8 * self.nbytes / max(1, self.weights)

    @property
    def eoq_types(self) -> list[WeightType]:
        """The EOQ types in use, by id."""
        used = {eoq.id: eoq for t in self.tensors if (eoq := eoq_type(t.type)) is not None}
        return [used[id] for id in sorted(used)]


def _expression(tensor_name: str) -> str:
    """What --tensor-type finds a tensor by, and those of its kind with it: all experts, or all blocks' ffn_down."""
    part = found["part"] if (found := BLOCK.fullmatch(tensor_name)) else tensor_name
    return "exps" if "exps" in part else part.removesuffix(".weight")


def check_readable(plan: Plan, allow_requantize: bool) -> None:
    """Refuse what cannot, or should not, be turned into floats.

    Copies are fine, except of EOQ tensors: a file made from an EOQ file would pass for one made from a full model.
    Raises QuantizedSourceError or SourceError.
    """
    for t in plan.tensors:
        source = t.tensor.type
        if not is_quantized(source) or (t.is_copy and eoq_type(source) is None):
            continue
        if not allow_requantize:
            kept = f", keep it as it is with --tensor-type {_expression(t.tensor.name)}={type_name(source)}"
            ways = f"convert the original F32, F16 or BF16 model{kept if type_name(source) in ORDINARY_TYPES else ''}"
            raise QuantizedSourceError(
                f"tensor {t.tensor.name} is quantised already ({type_name(source)}), and quantising it again adds to "
                f"its error; {ways}, or pass --allow-requantize"
            )
        if not t.is_copy and not can_dequantize(source):
            raise SourceError(
                f"tensor {t.tensor.name} has type {type_name(source)}, which gguf-py cannot turn into floats; "
                "convert the original model, or make an F16 file of it with llama-quantize"
            )
