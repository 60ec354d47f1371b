"""Importance matrices of llama.cpp."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics import check_statistics, open_statistics
from tests.samples.moments_samples import DOWN, K, Q, model


def write_imatrix(
    path: Path, tensors: Mapping[str, NDArray[np.generic]], datasets: Sequence[str] = ("news.txt",)
) -> Path:
    """As llama-imatrix lays it out: NAME.in_sum2 (experts, n) and NAME.counts (experts, 1)."""
    writer = GGUFWriter(path, "")
    writer.add_type("imatrix")
    if datasets:
        writer.add_array("imatrix.datasets", datasets)
    writer.add_uint32("imatrix.chunk_count", 3)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def sums(seed: int, *shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def sample() -> dict[str, NDArray[np.float32]]:
    return {
        f"{Q}.in_sum2": sums(1, 1, 64),
        f"{Q}.counts": np.array([[100]], dtype=np.float32),
        f"{DOWN}.in_sum2": sums(2, 3, 32),
        f"{DOWN}.counts": np.array([[10], [20], [0]], dtype=np.float32),
    }


def test_means_of_squares(folder: Path) -> None:
    s = open_statistics(write_imatrix(folder / "imatrix.gguf", sample()))
    assert s.tensor_names == (Q, DOWN) and K not in s
    assert s.fingerprint is None and s.tokens == 100
    assert s.description == "imatrix.gguf of llama-imatrix, 3 chunks of 512 tokens"
    assert np.allclose(s.diagonal(Q), sums(1, 1, 64) / 100) and s.diagonal(Q).shape == (1, 64)
    assert np.allclose(s.diagonal(DOWN)[1], sums(2, 3, 32)[1] / 20)
    assert s.counts(DOWN).tolist() == [10, 20, 0] and s.row_length(DOWN) == 32
    assert s.moments(Q) is None and s.input_key(Q) != s.input_key(DOWN)
    check_statistics(s, model(folder))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (f"{Q}.counts", None, f"no counts|sums of tensor {Q}, but"),
        (f"{Q}.counts", np.ones((2, 1), np.float32), "2 counts for 1 rows"),
        (f"{Q}.in_sum2", np.full((1, 64), np.nan, np.float32), "no positive numbers"),
        (f"{Q}.in_sum2", np.full((1, 64), -1, np.float32), "no positive numbers"),
        (f"{Q}.in_sum2", np.ones((1, 64), np.float16), "type F16"),
    ],
)
def test_damaged_files_are_refused(name: str, value: NDArray[np.generic] | None, message: str, folder: Path) -> None:
    tensors: dict[str, NDArray[np.generic]] = {**sample()}
    if value is None:
        del tensors[name]
    else:
        tensors[name] = value
    path = write_imatrix(folder / "imatrix.gguf", tensors)
    with pytest.raises(StatisticsError, match=message):
        open_statistics(path)


def test_one_without_statistics_is_refused(folder: Path) -> None:
    with pytest.raises(StatisticsError, match="without any statistics"):
        open_statistics(write_imatrix(folder / "imatrix.gguf", {}))
