"""Merging statistics of several texts."""

from pathlib import Path

import numpy as np
import pytest

from converter.errors import StatisticsError
from converter.statistics import merge_statistics
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
    merged = merge_statistics([path, path], path)
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
