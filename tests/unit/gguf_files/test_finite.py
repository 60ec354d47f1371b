"""Weights that are no numbers, found in a whole model."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T

from eoq_formats.errors import NonFiniteWeightError
from gguf_files.finite import check_weights_finite
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf


@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_the_first_tensor_with_one_is_named(bad: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gguf_files.finite._PIECE", 3 * 128)
    tensors = tiny_model() | {"packed.weight": as_type(random_weights(1, 4, 64), T.Q8_0)}
    check_weights_finite(open_gguf(write_gguf(tmp_path / "sound.gguf", tensors)))
    for name in ("blk.0.attn_q.weight", "blk.0.ffn_up_exps.weight"):
        tensors[name].reshape(-1, 128)[7, 5] = bad
    with pytest.raises(NonFiniteWeightError, match=r"tensor blk.0.attn_q.weight has a NaN or an infinity in row 7"):
        check_weights_finite(open_gguf(write_gguf(tmp_path / "damaged.gguf", tensors)))
