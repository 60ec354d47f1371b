"""The memory that a conversion takes at the most, stage by stage, and how a bound on it is shared out.

Only the calibration's share has a size to choose: less takes more passes over the text. All else follows from the
model, as chunks of rows have one size whatever the machine: bytes must not depend on it. What the system keeps of the
model's file in memory, and takes away as it needs to, is not counted.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from converter.errors import OptionError
from converter.options import ConversionOptions
from converter.plan import Plan, TensorPlan
from converter.plan.memory import compute_bytes, kv_bytes_per_token
from converter.statistics import open_statistics
from gguf_files.source import Source
from gguf_files.tensor_types import eoq_type
from gguf_files.tensors import TensorInfo

_NEAREST_TOOL, _TOOL = 288 << 20, 512 << 20
"""Bytes of Python, its packages and what numba compiles, without PyTorch and with it; measured: 212 and 470 MB."""
_PROGRAM = 256 << 20
"""Bytes of llama-moments beside its buffers."""
_FACTORISING = 6.25
"""Matrices of n² float32 that are there at once while moments are rotated, ordered and factorised; measured: 6.1."""
_FACTORISED = 2.5
"""Of those, what stays while rows are rounded."""
_CHUNKS = 11
"""Arrays of a chunk of rows in float32 that error feedback holds; measured: 9.6."""
_POOLING = 2
"""Matrices more where the moments of a tensor's experts are pooled."""
_SCALING = 3
"""Matrices more while scales are tried."""
_BATCH = 512
"""Tokens that `compute_bytes` is for."""
_FLOAT = 4


@dataclass(frozen=True)
class MemoryNeed:
    """What a stage takes at the least."""

    nbytes: int
    what: str
    """In words that follow "too little for"."""


def within_memory(options: ConversionOptions, plan: Plan, source: Source) -> ConversionOptions:
    """Options that keep their bound on memory. Raises OptionError, with the least that would do, where none do."""
    bound = options.max_memory
    if bound is None:
        return options
    needs = list(_needs(options, plan, source))
    most = max(needs, key=lambda need: need.nbytes)
    if most.nbytes > bound:
        raise OptionError(
            f"--max-memory {bound / 10**6:,.0f}M is too little for {most.what}; "
            f"give at least --max-memory {-(-most.nbytes // 10**6)}M"
        )
    if not _is_calibrating(options, plan):
        return options
    share = bound - _beside_sums(options, source)
    limit = min(options.calibration.memory_limit, share)
    return replace(options, calibration=replace(options.calibration, memory_limit=limit))


def _needs(options: ConversionOptions, plan: Plan, source: Source) -> Iterator[MemoryNeed]:
    yield MemoryNeed(_NEAREST_TOOL, "rounding to nearest")
    if not options.rounding.is_calibrated or not plan.eoq_types:
        return
    yield MemoryNeed(_TOOL, "calibrated rounding")
    if _is_calibrating(options, plan):
        largest = max((t for t in source.tensors if t.dimensions > 1), key=_sums)
        sums = _beside_sums(options, source) + _sums(largest)
        yield MemoryNeed(sums, f"the sums of {_described(largest)} while it calibrates")
    existing = options.statistics is not None and options.statistics.exists()
    has_moments = not existing or open_statistics(options.statistics).has_moments  # type: ignore[arg-type]
    for t in plan.tensors:
        if eoq_type(t.type) is not None:
            yield MemoryNeed(_TOOL + _of_rounding(t, options, has_moments), f"rounding {_described(t.tensor)}")


def _is_calibrating(options: ConversionOptions, plan: Plan) -> bool:
    given = options.statistics is not None and options.statistics.exists()
    return options.rounding.is_calibrated and bool(plan.eoq_types) and not given


def _of_rounding(plan: TensorPlan, options: ConversionOptions, has_moments: bool) -> int:
    # torch, which they load, takes seconds, and a calibrated conversion loads it anyway
    from converter.rounding.error_feedback import FeedbackOptions
    from converter.scaling.search import SearchOptions

    length, rows = plan.tensor.row_length, plan.tensor.rows // plan.tensor.matrices
    chunk = _FLOAT * min(max(FeedbackOptions.chunk_weights, length), length * rows)
    if not has_moments:
        return _CHUNKS * chunk
    more = _POOLING * (plan.tensor.matrices > 1)
    factorising = _FACTORISING + more
    if options.rounding.awq is not False and length <= SearchOptions.longest_channels:
        factorising += _SCALING
    matrix = _FLOAT * length**2
    return max(int(factorising * matrix), int((_FACTORISED + more) * matrix) + _CHUNKS * chunk)


def _beside_sums(options: ConversionOptions, source: Source) -> int:
    """What calibration takes but for its sums: this tool, and the model's buffers and cache for a sequence."""
    length = options.calibration.sequence_length
    # logits are there once in the buffers and once as the result
    buffers = 2 * compute_bytes(source) * length // _BATCH
    return _TOOL + _PROGRAM + buffers + length * (kv_bytes_per_token(source) or 0)


def _sums(tensor: TensorInfo) -> int:
    """Sums of one input: half a matrix, in panels, for each expert."""
    length = tensor.row_length
    return tensor.matrices * _FLOAT * (length * length // 2 + 128 * length)


def _described(tensor: TensorInfo) -> str:
    return f"{tensor.name} (rows of {tensor.row_length:,} weights)"
