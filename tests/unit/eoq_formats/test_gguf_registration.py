"""gguf-py reads, writes and converts the EOQ types as its own."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from eoq_formats import WEIGHT_TYPES, NonFiniteWeightError, WeightType, reference
from eoq_formats.gguf_registration import register

register()


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_a_tensor_survives_a_file(t: WeightType, tmp_path: Path) -> None:
    kind = gguf.GGMLQuantizationType(t.id)
    assert kind.name == t.name and kind is getattr(gguf.GGMLQuantizationType, t.name)
    x = np.random.default_rng(14).standard_normal((3, 4, 2 * t.width)).astype(np.float32)
    data = gguf.quants.quantize(x, kind)
    assert (data.reshape(12, -1) == reference.quantize(x.reshape(12, -1), t)).all()

    path = tmp_path / "one.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_file_type(gguf.LlamaFileType(t.id))
    writer.add_tensor("blk.0.ffn_up_exps.weight", data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    reader = gguf.GGUFReader(path)
    (tensor,) = reader.tensors
    assert tensor.tensor_type is kind and tensor.shape.tolist() == [2 * t.width, 4, 3]
    assert (tensor.data == data).all()
    back = gguf.quants.dequantize(np.asarray(tensor.data), kind)
    assert (back.reshape(12, -1) == reference.dequantize(data.reshape(12, -1), t)).all()


def test_registering_again_changes_nothing() -> None:
    before = list(gguf.GGMLQuantizationType), dict(gguf.GGML_QUANT_SIZES), dict(gguf.quants._type_traits)
    register()
    assert before == (list(gguf.GGMLQuantizationType), dict(gguf.GGML_QUANT_SIZES), dict(gguf.quants._type_traits))


def test_sizes_are_known() -> None:
    for t in WEIGHT_TYPES:
        assert gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(t.id)] == (t.width, t.block_bytes)
        assert gguf.LlamaFileType(t.id).name == f"MOSTLY_{t.name}"


def test_nan_is_refused() -> None:
    x = np.full((1, 128), np.nan, dtype=np.float32)
    with pytest.raises(NonFiniteWeightError, match="EOQ4"):
        gguf.quants.quantize(x, gguf.GGMLQuantizationType(164))
