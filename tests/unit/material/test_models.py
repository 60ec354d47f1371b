"""The yardsticks: F16, and the weights of the file that they are made of, in another order."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from gguf.quants import dequantize

from material.models import smollm2, yardstick


@pytest.mark.download
def test_the_llama_yardstick_is_smollm2_shuffled() -> None:
    quantised, shuffled = GGUFReader(smollm2()), GGUFReader(yardstick("135m"))
    assert shuffled.fields["general.architecture"].contents() == "llama"
    assert [t.name for t in shuffled.tensors] == [t.name for t in quantised.tensors]
    for old, new in zip(quantised.tensors[:12], shuffled.tensors, strict=False):
        assert new.tensor_type == (GGMLQuantizationType.F16 if len(new.shape) == 2 else GGMLQuantizationType.F32)
        weights = dequantize(old.data, old.tensor_type).astype(new.data.dtype).astype(np.float32).ravel()
        stored = new.data.astype(np.float32).ravel()
        assert not np.array_equal(weights, stored)
        assert np.array_equal(np.sort(weights), np.sort(stored))
