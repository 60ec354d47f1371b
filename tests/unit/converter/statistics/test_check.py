"""Statistics of one model are not taken for another's."""

from pathlib import Path

import numpy as np
import pytest

from converter.errors import StatisticsError
from converter.statistics import check_statistics, fingerprint, open_statistics
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf
from tests.samples.moments_samples import DOWN, EXPERTS, Q, model, write_statistics
from tests.unit.converter.statistics.test_imatrix import sums, write_imatrix


def test_those_of_the_model_are_accepted(folder: Path) -> None:
    source = model(folder)
    check_statistics(write_statistics(folder / "s.stats", source, seed=1), source)


def test_those_of_another_model_are_refused(folder: Path) -> None:
    statistics = write_statistics(folder / "s.stats", model(folder), seed=1)
    with pytest.raises(StatisticsError, match=r"of another model: its fingerprint is not that of .*model-9\.gguf"):
        check_statistics(statistics, model(folder, seed=9))


def test_the_fingerprint_is_of_values_and_not_of_bytes(folder: Path) -> None:
    tensors = tiny_model()
    half = fingerprint(open_gguf(write_gguf(folder / "half.gguf", tensors)))
    wide = {name: np.asarray(t, dtype=np.float32) for name, t in reversed(tensors.items())}
    assert fingerprint(open_gguf(write_gguf(folder / "wide.gguf", wide))) == half
    assert len(half) == 64


@pytest.mark.parametrize("change", ["value", "name", "shape", "architecture"])
def test_the_fingerprint_tells_models_apart(change: str, folder: Path) -> None:
    tensors = tiny_model()
    first = fingerprint(open_gguf(write_gguf(folder / "a.gguf", tensors)))
    name = "blk.0.attn_q.weight"
    if change == "value":
        tensors[name][-1, -1] += 1
    elif change == "name":
        tensors["blk.0.attn_k.weight"] = tensors.pop(name)
    elif change == "shape":
        tensors[name] = tensors[name].reshape(-1, 64)
    architecture = "qwen2" if change == "architecture" else "llama"
    assert fingerprint(open_gguf(write_gguf(folder / "b.gguf", tensors, architecture=architecture))) != first


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 32), "rows of 32, and the model's are of 64"), ((2, 64), "for 2 experts .* model has 1")],
)
def test_an_imatrix_of_another_model_is_refused_by_its_shapes(
    shape: tuple[int, int], message: str, folder: Path
) -> None:
    counts = np.ones((shape[0], 1), np.float32)
    path = write_imatrix(folder / "i.gguf", {f"{Q}.in_sum2": sums(1, *shape), f"{Q}.counts": counts})
    with pytest.raises(StatisticsError, match=message):
        check_statistics(open_statistics(path), model(folder))


def test_several_matrices_in_one_row_of_an_imatrix_are_divided(folder: Path) -> None:
    """As llama-imatrix writes attn_k_b of MLA, and experts from a file in the old .dat form."""
    given = sums(1, 1, EXPERTS * 32)
    counts = np.full((1, 1), 20, np.float32)
    path = write_imatrix(folder / "i.gguf", {f"{DOWN}.in_sum2": given, f"{DOWN}.counts": counts})
    divided = check_statistics(open_statistics(path), model(folder))
    assert np.allclose(divided.diagonal(DOWN), given.reshape(EXPERTS, 32) / 20)
    assert divided.counts(DOWN).tolist() == [20] * EXPERTS and divided.row_length(DOWN) == 32


def test_an_imatrix_without_a_tensor_of_the_model_is_refused(folder: Path) -> None:
    path = write_imatrix(folder / "i.gguf", {"x.weight.in_sum2": sums(1, 1, 64), "x.weight.counts": sums(1, 1, 1)})
    source = open_gguf(write_gguf(folder / "m.gguf", {"output.weight": random_weights(1, 8, 64)}))
    with pytest.raises(StatisticsError, match=r"no tensor of .*m\.gguf \(of x\.weight\)"):
        check_statistics(open_statistics(path), source)
