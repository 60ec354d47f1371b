"""Statistics files of a model of three tensors, one of them with experts."""

from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray

from converter.statistics import fingerprint
from converter.statistics.moments_file import InputLayout, MomentsFile, StatisticsHead, StatisticsWriter
from converter.statistics.open import open_statistics
from converter.statistics.triangle import pack
from gguf_files.source import Source, open_gguf
from gguf_files.tensors import TensorInfo
from tests.samples.gguf_samples import random_weights, write_gguf

EXPERTS = 3
TARGETS = [
    TensorInfo("blk.0.attn_q.weight", (64, 5), GGMLQuantizationType.F32),
    TensorInfo("blk.0.attn_k.weight", (64, 4), GGMLQuantizationType.F32),
    TensorInfo("blk.0.ffn_down_exps.weight", (32, 6, EXPERTS), GGMLQuantizationType.F32),
]
Q, K, DOWN = (t.name for t in TARGETS)
LAYOUTS = (
    InputLayout("blk.0.attn_q", 64, 1, False, (Q, K)),
    InputLayout("blk.0.ffn_down_exps", 32, EXPERTS, False, (DOWN,)),
)


def model(folder: Path, seed: int = 0) -> Source:
    """A GGUF with the tensors."""
    tensors = {t.name: random_weights(seed + i, *t.shape[::-1], dtype=np.float32) for i, t in enumerate(TARGETS)}
    return open_gguf(write_gguf(folder / f"model-{seed}.gguf", tensors))


def inputs(seed: int, tokens: int, n: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((tokens, n)).astype(np.float32)


def mean_of_products(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of x xᵀ over inputs (tokens, n), (n, n); zeros without inputs."""
    return np.asarray(x.T @ x / max(1, len(x)), dtype=np.float32)


def write_statistics(target: Path, source: Source, seed: int, counts: tuple[int, ...] = (40, 7, 0)) -> MomentsFile:
    """Moments of random inputs: 50 for attention, `counts` for the experts."""
    head = StatisticsHead(fingerprint(source), 50, f"text {seed}", ("a note",), LAYOUTS)
    with StatisticsWriter(target, head) as writer:
        for layout, numbers in zip(LAYOUTS, ((50,), counts), strict=True):
            given = [inputs(seed + i, count, layout.row_length) for i, count in enumerate(numbers)]
            moments = [mean_of_products(x) for x in given]
            pieces = (piece for m in moments for piece in pack(m))
            writer.write(pieces, np.stack([np.diag(m) for m in moments]), np.array(numbers))
        writer.commit()
    found = open_statistics(target)
    assert isinstance(found, MomentsFile)
    return found
