"""First inputs of the C fuzzers: of every type, and files that llama.cpp's reader takes in Python too."""

from pathlib import Path

from eoq_formats.types import WEIGHT_TYPES
from gguf_files.source import open_gguf
from tests.attacks.seeds_for_c import OPERATIONS, write


def test_every_type_and_operation_has_a_seed(tmp_path: Path) -> None:
    write(tmp_path)
    heads = {tuple(path.read_bytes()[:2]) for path in (tmp_path / "blocks").iterdir()}
    assert heads == {(t, operation) for t in range(len(WEIGHT_TYPES)) for operation in range(OPERATIONS)}
    types = {tensor.type for path in (tmp_path / "gguf").iterdir() for tensor in open_gguf(path).tensors}
    assert types.issuperset(t.id for t in WEIGHT_TYPES)
