"""Merging statistics of several texts."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics import merge_statistics, mix_statistics
from output_files.errors import TargetError
from tests.samples.moments_samples import DOWN, K, inputs, model, write_statistics
from tests.unit.converter.statistics.test_imatrix import sample, write_imatrix


def test_a_token_counts_the_same_whichever_file_it_is_from(folder: Path) -> None:
    source = model(folder)
    write_statistics(folder / "a.stats", source, seed=5, counts=(40, 7, 0))
    write_statistics(folder / "b.stats", source, seed=8, counts=(10, 0, 0))
    merged = merge_statistics([folder / "a.stats", folder / "b.stats"], folder / "merged.stats")
    assert merged.tokens == 100 and merged.description == "text 5 + text 8" and merged.notes == ("a note",)
    assert merged.counts(DOWN).tolist() == [50, 7, 0]
    x = np.concatenate([inputs(5, 50, 64), inputs(8, 50, 64)])
    assert np.allclose(merged.moments(K), x.T @ x / 100, atol=1e-6)
    x = np.concatenate([inputs(5, 40, 32), inputs(8, 10, 32)])
    assert np.allclose(merged.moments(DOWN, 0), x.T @ x / 50, atol=1e-6)
    assert np.allclose(merged.diagonal(DOWN)[0], np.mean(x * x, axis=0), rtol=1e-6)
    x = inputs(6, 7, 32)
    assert np.allclose(merged.moments(DOWN, 1), x.T @ x / 7, atol=1e-6)
    assert not merged.moments(DOWN, 2).any()


def test_a_file_merged_with_itself_stays_what_it_was(folder: Path) -> None:
    path = folder / "a.stats"
    write_statistics(path, model(folder), seed=5)
    merged = merge_statistics([path, path], folder / "merged.stats")
    assert merged.tokens == 100
    x = inputs(5, 50, 64)
    assert np.allclose(merged.moments(K), x.T @ x / 50, atol=1e-6)


def test_what_cannot_be_merged_is_refused(folder: Path) -> None:
    write_statistics(folder / "a.stats", model(folder), seed=5)
    write_statistics(folder / "b.stats", model(folder, seed=3), seed=5)
    target = folder / "merged.stats"
    with pytest.raises(StatisticsError, match="are of different models"):
        merge_statistics([folder / "a.stats", folder / "b.stats"], target)
    imatrix = write_imatrix(folder / "i.gguf", sample())
    with pytest.raises(StatisticsError, match="merge such files with llama-imatrix"):
        merge_statistics([folder / "a.stats", imatrix], target)
    with pytest.raises(StatisticsError, match="nothing to merge"):
        merge_statistics([], target)
    assert not target.exists()
    with pytest.raises(TargetError, match=r"would write over .*a\.stats, which is read"):
        merge_statistics([folder / "a.stats", folder / "a.stats"], folder / "a.stats")
    with pytest.raises(StatisticsError, match=r"the weight of .*a\.stats must be above 0, not 0"):
        mix_statistics({folder / "a.stats": 0.0}, target)


def test_in_a_mixture_each_file_has_its_weight(folder: Path) -> None:
    source = model(folder)
    weights = {folder / "a.stats": 3.0, folder / "b.stats": 1.0}
    write_statistics(folder / "a.stats", source, seed=5, counts=(40, 7, 0))
    write_statistics(folder / "b.stats", source, seed=8, counts=(10, 0, 0))
    mixed = mix_statistics(weights, folder / "mixed.stats")
    assert mixed.description == "3 x (text 5) + 1 x (text 8)"
    assert mixed.counts(DOWN).tolist() == [50, 7, 0]

    def mean(seed: int, count: int, n: int) -> NDArray[np.float32]:
        x = inputs(seed, count, n)
        return x.T @ x / np.float32(count)

    assert np.allclose(mixed.moments(K), (3 * mean(5, 50, 64) + mean(8, 50, 64)) / 4, atol=1e-6)
    first = (3 * mean(5, 40, 32) + mean(8, 10, 32)) / 4
    assert np.allclose(mixed.moments(DOWN, 0), first, atol=1e-6)
    assert np.allclose(mixed.diagonal(DOWN)[0], np.diag(first), rtol=1e-6)
    # what one file has not seen is the other's alone
    assert np.allclose(mixed.moments(DOWN, 1), mean(6, 7, 32), atol=1e-6)
    assert not mixed.moments(DOWN, 2).any()
