"""Weights that no token of the calibration reached: codes cannot be chosen by their inputs, so they get more bits."""

from collections.abc import Container, Sequence
from dataclasses import replace

from converter.errors import StatisticsError
from converter.plan.plan import Plan, TensorPlan
from converter.statistics import Statistics
from converter.type_choice import eoq_choice
from eoq_formats.types import weight_type
from gguf_files.names import BLOCK, PER_LAYER_TOKEN_EMBEDDINGS, TOKEN_EMBEDDINGS
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo

LEAST_BITS = 5
READ_BY_ROW = (TOKEN_EMBEDDINGS, PER_LAYER_TOKEN_EMBEDDINGS)
"""Tables whose rows are looked up: they have no inputs."""
LEAST_COVERAGE = 0.9
"""Share of the weights in blocks that an imatrix must be of. What llama.cpp does not run, such as a layer for
multi-token prediction, is less than a tenth; a model with a third more blocks misses a quarter."""


def coverage(tensors: Sequence[TensorInfo], measured: Container[str]) -> float:
    """The share, 0 to 1, of the weights in blocks that are `measured`; 1 where there are none.

    Output and embeddings are left out: an imatrix has them only where llama-imatrix was asked to.
    """
    in_blocks = [t for t in tensors if BLOCK.fullmatch(t.name)]
    weights = sum(t.weights for t in in_blocks)
    return sum(t.weights for t in in_blocks if t.name in measured) / weights if weights else 1.0


def check_coverage(tensors: Sequence[TensorInfo], statistics: Statistics) -> None:
    """Raise StatisticsError for statistics of few of the tensors to quantise, unless they say that they are this
    model's, where all was measured that could be."""
    share = coverage(tensors, statistics)
    if statistics.fingerprint is None and share < LEAST_COVERAGE:
        missing = next(t.name for t in tensors if BLOCK.fullmatch(t.name) and t.name not in statistics)
        raise StatisticsError(
            f"{statistics.path} has statistics of {100 * share:.0f} % of the weights in blocks, and of {missing} none: "
            "it seems to be of another model; give this model's, or pass --allow-partial-stats to round the others to "
            "nearest"
        )


def with_bits_for_unmeasured(plan: Plan, measured: Container[str]) -> tuple[Plan, str | None]:
    """The plan with at least LEAST_BITS for weights that are not `measured`, and a sentence on them if there are any.

    Types that an option names stay.
    """
    tensors = tuple(_with_bits(t) if _is_unmeasured(t, measured) else t for t in plan.tensors)
    unmeasured = [t for t in tensors if _is_unmeasured(t, measured)]
    if not unmeasured:
        return plan, None
    count, weights = len(unmeasured), sum(t.tensor.weights for t in unmeasured)
    listed = unmeasured[0].tensor.name if count == 1 else f"{count} tensors, such as {unmeasured[0].tensor.name}"
    fixed = ", but where an option names the type" if any(_has_few_bits(t) for t in unmeasured) else ""
    return replace(plan, tensors=tensors), (
        f"no token of the calibration reached {listed} ({weights:,} weights): rounded to nearest, in no fewer than "
        f"{LEAST_BITS} bits{fixed}"
    )


def _is_unmeasured(t: TensorPlan, measured: Container[str]) -> bool:
    name = t.tensor.name
    return eoq_type(t.type) is not None and not t.is_copy and name not in measured and name not in READ_BY_ROW


def _has_few_bits(t: TensorPlan) -> bool:
    eoq = eoq_type(t.type)
    return eoq is not None and eoq.bits < LEAST_BITS


def _with_bits(t: TensorPlan) -> TensorPlan:
    eoq = eoq_type(t.type)
    if eoq is None or t.is_fixed or not _has_few_bits(t):
        return t
    choice = eoq_choice(weight_type(f"eoq{LEAST_BITS}t" if eoq.is_trellis else f"eoq{LEAST_BITS}"))
    fitting = choice.for_row(t.tensor.row_length)
    assert fitting is not None, "families of EOQ types have the same block widths"
    return replace(t, type=fitting, why="saw no tokens")
