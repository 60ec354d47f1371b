"""llama-quantize makes every EOQ type, with the bytes of our converter, and llama.cpp runs the result."""

import math
from pathlib import Path

import pytest
from gguf import GGUFReader

from eoq_formats.gguf_registration import register
from eoq_formats.types import WeightType, weight_type
from tests.e2e.command import perplexity, run
from tests.e2e.conftest import Convert


# a few stand for all, whose bytes the unit tests compare
@pytest.mark.parametrize(
    "t", [weight_type(name) for name in ("eoq2", "eoq4", "eoq5_64", "eoq6_64", "eoq3t")], ids=lambda t: t.name
)
def test_every_type(
    programs: Path, smollm2_f16: Path, smollm2: Convert, evaluation_text: Path, tmp_path: Path, t: WeightType
) -> None:
    quantized = tmp_path / "quantized.gguf"
    run(programs / "llama-quantize", smollm2_f16, quantized, t.name)
    assert math.isfinite(perplexity(programs, quantized, evaluation_text, "--check-tensors", chunks=2, context=128))

    register()
    ours = {tensor.name: tensor for tensor in GGUFReader(smollm2(t.name.lower())).tensors}
    theirs = {tensor.name: tensor for tensor in GGUFReader(quantized).tensors}
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert tensor.tensor_type == ours[name].tensor_type, name
        assert tensor.data.tobytes() == ours[name].data.tobytes(), name
    assert t.name in {tensor.tensor_type.name for tensor in theirs.values()}
