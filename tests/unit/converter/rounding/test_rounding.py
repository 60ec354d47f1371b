"""Rounding to nearest: the bytes of the kernels, whatever the source type and the chunks."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize
from numpy.typing import NDArray

from converter.plan import TensorPlan
from converter.rounding import RoundedRows, RoundToNearest, copy_rows
from converter.rounding import rounded_rows as rounding_rows
from converter.type_choice import ORDINARY_TYPES
from eoq_formats import kernels
from eoq_formats.errors import NonFiniteWeightError, ScaleOverflowError
from eoq_formats.types import weight_type
from gguf_files.source import Source, open_gguf
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights
from tests.samples.gguf_samples import Tensors, as_type, random_weights, write_gguf

EOQ4 = T(164)


def open_one(folder: Path, data: NDArray[np.generic]) -> tuple[Source, TensorInfo]:
    tensors: Tensors = {"blk.0.ffn_up.weight": data}
    source = open_gguf(write_gguf(folder / "one.gguf", tensors))
    return source, source.tensors[0]


def round_all(folder: Path, data: NDArray[np.generic], kind: T, threads: int = 2) -> tuple[bytes, list[RoundedRows]]:
    source, info = open_one(folder, data)
    with RowWorkers(threads) as workers:
        parts = list(RoundToNearest(workers).round(TensorPlan(info, kind, ""), SourceWeights(source, workers)))
    return b"".join(part.data.tobytes() for part in parts), parts


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rounding_rows, "CHUNK_WEIGHTS", 1000)
    yield


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("source_type", ["f64", "f32", "f16", "bf16", "q8_0", "q4_1", "eoq6"])
def test_eoq_bytes_are_those_of_the_kernels(source_type: str, tmp_path: Path) -> None:
    weights = random_weights(1, 5, 3, 256, dtype=np.float32)
    kind = T[source_type.upper()]
    plain = {T.F64: np.float64, T.F32: np.float32, T.F16: np.float16}
    stored: NDArray[np.generic] = weights.astype(plain[kind]) if kind in plain else as_type(weights, kind)
    expected = stored.astype(np.float32) if kind in plain else dequantize(np.asarray(stored), kind)
    data, parts = round_all(tmp_path, stored, EOQ4)
    packed = kernels.quantize(expected.reshape(15, 256), weight_type(EOQ4.value))
    assert len(parts) == 5 and data == packed.data.tobytes()
    assert sum(p.signal for p in parts) == pytest.approx(packed.signal.sum(), rel=1e-12)
    assert sum(p.error for p in parts) == pytest.approx(packed.error.sum(), rel=1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("name", ORDINARY_TYPES)
def test_ordinary_bytes_are_those_of_gguf_py(name: str, tmp_path: Path) -> None:
    weights = random_weights(2, 70, 256, dtype=np.float32)
    expected = as_type(weights, T[name.upper()])
    for threads in (1, 2):
        data, parts = round_all(tmp_path, weights, T[name.upper()], threads)
        assert data == expected.tobytes()
    error = dequantize(np.asarray(expected), T[name.upper()]).astype(np.float64) - weights
    assert sum(p.error for p in parts) == pytest.approx((error**2).sum(), rel=1e-5)
    assert sum(p.signal for p in parts) == pytest.approx((weights.astype(np.float64) ** 2).sum(), rel=1e-12)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", [EOQ4, T.Q8_0, T.BF16], ids=lambda t: t.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_tensor_and_row(kind: T, bad: float, tmp_path: Path) -> None:
    weights = random_weights(3, 20, 256, dtype=np.float32)
    weights[13, 200] = bad
    with pytest.raises(NonFiniteWeightError, match=r"blk\.0\.ffn_up\.weight .* row 13"):
        round_all(tmp_path, weights, kind)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", [T.F64, T.F32, T.F16, T.BF16], ids=lambda t: t.name)
def test_copies_are_the_bytes_of_the_source_and_finite(kind: T, tmp_path: Path) -> None:
    weights = random_weights(4, 20, 256, dtype=np.float32)
    plain = {T.F64: np.float64, T.F32: np.float32, T.F16: np.float16}

    def stored() -> NDArray[np.generic]:
        return weights.astype(plain[kind]) if kind in plain else as_type(weights, kind)

    source, info = open_one(tmp_path, stored())
    assert b"".join(part.data.tobytes() for part in copy_rows(info, source)) == stored().tobytes()
    weights[11, 0] = np.inf
    source, info = open_one(tmp_path, stored())
    with pytest.raises(NonFiniteWeightError, match="row 11"):
        list(copy_rows(info, source))


@pytest.mark.parametrize(("kind", "value"), [(EOQ4, 1e30), (T.F16, 1e6), (T.Q8_0, 1e30)], ids=str)
def test_weights_too_large_for_a_type(kind: T, value: float, tmp_path: Path) -> None:
    weights = random_weights(5, 8, 256, dtype=np.float32)
    weights[6, 3] = value
    with pytest.raises(ScaleOverflowError, match=r"blk\.0\.ffn_up\.weight, row 6: .*=bf16"):
        round_all(tmp_path, weights, kind)
