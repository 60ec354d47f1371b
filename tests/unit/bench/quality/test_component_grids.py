"""The grids of the ablation are what they are called, and their files hold what the grids make."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.quality.component_grids import ComponentFile, absmax, lloyd_max, rotated, write_component_file
from eoq_formats.codebooks import codebook
from eoq_formats.rotation import rotate
from gguf_files.source import open_gguf
from gguf_files.weights import RowWorkers, SourceWeights
from tests.samples.gguf_samples import tiny_model, write_gguf

WIDTH = 128


@pytest.fixture
def blocks() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((4000, WIDTH)).astype(np.float32)


def test_absmax_has_31_equal_steps(blocks: NDArray[np.float32]) -> None:
    made = absmax(blocks)
    unit = (np.abs(blocks).max(axis=1, keepdims=True) / 15).astype(np.float16).astype(np.float32)
    steps = made / unit
    assert np.abs(steps).max() == 15 and np.array_equal(steps, np.rint(steps))
    # a scale that fp16 rounded down cuts the greatest weight off
    assert np.all(np.abs(made - blocks) <= unit / 2 + np.abs(blocks) * 2**-11)
    assert np.array_equal(absmax(np.zeros((1, WIDTH), dtype=np.float32)), np.zeros((1, WIDTH)))


def test_lloyd_max_is_best_for_normal_weights(blocks: NDArray[np.float32]) -> None:
    error = float(np.square(lloyd_max(blocks) - blocks).mean())
    # the standard error of the mean, and what a scale of 128 weights in place of the true one costs
    assert error == pytest.approx(codebook(5).real_mse, rel=0.05)
    assert error < 0.9 * float(np.square(absmax(blocks) - blocks).mean())


def test_a_rotated_grid_rounds_in_the_other_basis(blocks: NDArray[np.float32]) -> None:
    def rounded(other: NDArray[np.float32]) -> NDArray[np.float32]:
        np.testing.assert_allclose(other, rotate(blocks) / np.sqrt(WIDTH), atol=1e-5)
        return np.round(other)

    made = rotate(rotated(rounded)(blocks)) / np.sqrt(WIDTH)
    # sums of 128 products in float32, twice
    np.testing.assert_allclose(made, np.round(made), atol=1e-4)


def test_a_file_holds_what_the_grid_makes(tmp_path: Path) -> None:
    source, target = tmp_path / "model.gguf", tmp_path / "made.gguf"
    write_gguf(source, tiny_model())
    write_component_file(ComponentFile(absmax), source, target, 1)
    before, after = open_gguf(source), open_gguf(target)
    changed = []
    with RowWorkers(1) as workers:
        for old, new in zip(before.tensors, after.tensors, strict=True):
            assert (old.name, old.shape, old.type) == (new.name, new.shape, new.type)
            was = SourceWeights(before, workers).read(old, 0, old.rows).copy()
            made = SourceWeights(after, workers).read(new, 0, new.rows)
            if not np.array_equal(was, made):
                changed.append(old.name)
                expected = absmax(was.reshape(-1, WIDTH)).reshape(was.shape)
                assert np.array_equal(made, expected.astype(np.float16).astype(np.float32)), old.name
    assert changed and all(name.startswith("blk.") and "norm" not in name for name in changed)
