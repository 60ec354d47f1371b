"""llama-quantize makes every EOQ type, with the bytes of our converter, and llama.cpp runs the result."""

import math
from pathlib import Path

import pytest
from gguf import GGUFReader

from eoq_formats.gguf_registration import register
from eoq_formats.types import WeightType, weight_type
from tests.e2e.command import convert, perplexity, run
from tests.e2e.conftest import Convert


def compare(theirs: Path, ours: Path, t: WeightType) -> None:
    """Raise AssertionError unless the files have the same tensors, some of the type."""
    register()
    expected = {tensor.name: tensor for tensor in GGUFReader(ours).tensors}
    made = {tensor.name: tensor for tensor in GGUFReader(theirs).tensors}
    assert made.keys() == expected.keys()
    for name, tensor in made.items():
        assert tensor.tensor_type == expected[name].tensor_type, name
        assert tensor.data.tobytes() == expected[name].data.tobytes(), name
    assert t.name in {tensor.tensor_type.name for tensor in made.values()}


# a few stand for all, whose bytes the unit tests compare
@pytest.mark.parametrize(
    "t", [weight_type(name) for name in ("eoq2", "eoq5_64", "eoq6_64", "eoq3t")], ids=lambda t: t.name
)
def test_a_small_model(programs: Path, minilm_f32: Path, tmp_path: Path, t: WeightType) -> None:
    theirs, ours = tmp_path / "theirs.gguf", tmp_path / "ours.gguf"
    run(programs / "llama-quantize", minilm_f32, theirs, t.name)
    convert(minilm_f32, ours, "--type", t.name.lower(), "--rtn", "--quiet")
    compare(theirs, ours, t)


def test_a_language_model(
    programs: Path, smollm2_f16: Path, smollm2: Convert, evaluation_text: Path, tmp_path: Path
) -> None:
    t = weight_type("eoq4")
    quantized = tmp_path / "quantized.gguf"
    run(programs / "llama-quantize", smollm2_f16, quantized, t.name)
    assert math.isfinite(perplexity(programs, quantized, evaluation_text, "--check-tensors", chunks=2, context=128))
    compare(quantized, smollm2("eoq4"), t)
