"""Statistics and importance matrices with any content, for a model of one matrix."""

import json
import struct
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from tests.samples.gguf_bytes import F64, TEXT, U64, Tensor, entry, gguf

NAME, KEY = "blk.0.attn_q.weight", "blk.0.attn_q"
WIDTH, TOKENS = 64, 704
_KEYS = "eoq.statistics."


def model(scale: float = 1.0) -> bytes:
    weights = (np.random.default_rng(1).standard_normal((4, WIDTH)) * scale).astype(np.float32)
    return gguf([entry("general.architecture", TEXT, "llama")], [Tensor(NAME, (WIDTH, 4), weights.tobytes())])


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def moments(n: int = WIDTH, sets: int = 1, diagonal: float = 1.0, first: float = 0.0) -> bytes:
    """The packed triangles of matrices with nothing beside the diagonal but one number in the first row."""
    matrix = np.zeros((n, n), dtype=np.float32)
    matrix[0, 1] = first
    np.fill_diagonal(matrix, diagonal)
    return matrix[np.triu_indices(n)].tobytes() * sets


def tensors(
    n: int = WIDTH,
    sets: int = 1,
    packed: bytes | None = None,
    diagonal: float = 1.0,
    count: float = TOKENS,
    key: str = KEY,
) -> list[Tensor]:
    """What an input has, right unless something else is given."""
    triangle = moments(n, sets) if packed is None else packed
    return [
        Tensor(f"{key}.moments", (n * (n + 1) // 2, sets), triangle),
        Tensor(f"{key}.diagonal", (n, sets), floats(*[diagonal] * n * sets)),
        Tensor(f"{key}.counts", (sets,), struct.pack(f"<{sets}d", *[count] * sets), type=F64),
    ]


def layout(**change: object) -> dict[str, object]:
    return {"key": KEY, "row_length": WIDTH, "experts": 1, "shared": False, "tensors": [NAME], **change}


def statistics(
    inputs: Any = None, parts: Sequence[Tensor] | None = None, notes: str = "[]", tokens: int = TOKENS, text: str = "t"
) -> bytes:
    """A statistics file; `inputs` in JSON, or what becomes that."""
    listed = [layout()] if inputs is None else inputs
    metadata = [
        entry("general.type", TEXT, "eoq-statistics"),
        entry(_KEYS + "version", U64, 2),
        entry(_KEYS + "fingerprint", TEXT, ""),
        entry(_KEYS + "tokens", U64, tokens),
        entry(_KEYS + "description", TEXT, text),
        entry(_KEYS + "notes", TEXT, notes),
        entry(_KEYS + "inputs", TEXT, listed if isinstance(listed, str) else json.dumps(listed)),
    ]
    return gguf(metadata, tensors() if parts is None else parts)


def imatrix(
    value: float = TOKENS,
    count: float = TOKENS,
    shape: tuple[int, ...] = (WIDTH, 1),
    counts_shape: tuple[int, ...] = (1, 1),
    type: int = 0,
) -> bytes:
    sums = Tensor(f"{NAME}.in_sum2", shape, floats(*[value] * prod(shape)), type=type)
    counts = Tensor(f"{NAME}.counts", counts_shape, floats(*[count] * prod(counts_shape)))
    return gguf([entry("general.type", TEXT, "imatrix")], [sums, counts])
