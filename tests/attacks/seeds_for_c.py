"""Valid inputs for the fuzzers of the C code (ggml_patch/tests/fuzz), by the writers in Python.

python -m tests.attacks.seeds_for_c build/fuzz/seeds      # makes build/fuzz/seeds/blocks and build/fuzz/seeds/gguf
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from gguf import GGMLQuantizationType, GGUFValueType

from eoq_formats.types import WEIGHT_TYPES
from tests.attacks.targets import MODELS
from tests.samples.gguf_bytes import TEXT, U32, Tensor, array, entry, gguf
from tests.samples.gguf_samples import as_type, random_weights

OPERATIONS = 3
"""Weights read, a row multiplied, rows multiplied."""
ROW = 256
"""Blocks of every width fit."""


def blocks() -> Iterator[tuple[str, bytes]]:
    """What fuzz-blocks.c reads: type, operation, numbers of blocks, rows and columns less one, then blocks."""
    for number, t in enumerate(WEIGHT_TYPES):
        stored = as_type(random_weights(number, 2, ROW), GGMLQuantizationType[t.name]).tobytes()
        for operation in range(OPERATIONS):
            shape = (number % 5, number % 18, number % 14)
            yield f"{t.name}-{operation}", bytes((number, operation, *shape)) + stored


def ggufs() -> Iterator[tuple[str, bytes]]:
    """Models: those that readers in Python are fuzzed with, one of each type of ours, one of several, and a split."""
    yield from ((f"model-{number}", data) for number, data in enumerate(MODELS))
    head = [entry("general.architecture", TEXT, "llama"), entry("general.alignment", U32, 64)]
    tensors = []
    for t in WEIGHT_TYPES:
        stored = as_type(random_weights(t.id, 2, ROW), GGMLQuantizationType[t.name]).tobytes()
        tensors.append(Tensor(f"{t.name}.weight", (ROW, 2), stored, type=t.id))
        yield t.name, gguf(head, tensors[-1:], align=64)
    yield "several", gguf([*head, array("eoq.types", TEXT, ["eoq2", "eoq3"])], tensors[:3], align=64)
    numbers = [entry(key, GGUFValueType.UINT16, value) for key, value in (("split.no", 0), ("split.count", 1))]
    total = entry("split.tensors.count", GGUFValueType.INT32, 1)
    yield "split", gguf([*head, *numbers, total], tensors[:1], align=64)


def write(folder: Path) -> None:
    """Write all seeds, a file each."""
    for name, seeds in (("blocks", blocks()), ("gguf", ggufs())):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for seed, data in seeds:
            (folder / name / seed).write_bytes(data)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
