"""Entropy of a matrix's softmax beside the formula written out."""

from collections.abc import Callable, Iterable
from math import exp, fsum, isnan, log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from converter.plan.planners.softmax_entropy import EPSILON, matrix_entropy, softmax_entropy, weighted_mean
from gguf_files.errors import SourceError
from gguf_files.source import open_gguf
from gguf_files.weights import Floats
from tests.samples.gguf_samples import random_weights, write_gguf


def whole(weights: Floats) -> Callable[[], Iterable[Floats]]:
    return lambda: [weights]


def by_formula(weights: Floats, epsilon: float = EPSILON) -> float:
    values = [float(w) for w in weights.ravel()]
    largest = max(values)
    powers = [exp(w - largest) for w in values]
    denominator = fsum(powers)
    return -fsum(p / denominator * log(p / denominator + epsilon) for p in powers)


def test_computed_by_hand() -> None:
    # p = 1/4, 3/4
    weights = np.log(np.array([[1.0, 3.0]])).astype(np.float32)
    p = 1 / (1 + exp(float(weights[0, 1]) - float(weights[0, 0])))
    expected = -(p * log(p + 0.01) + (1 - p) * log(1 - p + 0.01))
    assert softmax_entropy(whole(weights)) == pytest.approx(expected, rel=1e-12)
    assert expected == pytest.approx(-(0.25 * log(0.26) + 0.75 * log(0.76)), rel=1e-6)
    # four equal weights
    assert softmax_entropy(whole(np.full((2, 2), 7, np.float32))) == pytest.approx(-log(0.26), rel=1e-12)
    # one weight
    assert softmax_entropy(whole(np.zeros((1, 1), np.float32)), epsilon=0.5) == pytest.approx(-log(1.5), rel=1e-12)


finite = st.floats(-80, 80, width=32)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=finite))
def test_the_formula(weights: Floats) -> None:
    assert softmax_entropy(whole(weights)) == pytest.approx(by_formula(weights), rel=1e-12, abs=1e-12)


@given(
    arrays(np.float32, st.tuples(st.integers(2, 12), st.integers(1, 9)), elements=finite),
    st.integers(1, 5),
    st.integers(1, 3),
)
def test_pieces_and_threads_make_no_difference(weights: Floats, rows: int, threads: int) -> None:
    def pieces() -> Iterable[Floats]:
        return (weights[i : i + rows] for i in range(0, len(weights), rows))

    one = softmax_entropy(pieces)
    assert softmax_entropy(pieces, threads=threads) == one
    assert one == pytest.approx(softmax_entropy(whole(weights)), rel=1e-13, abs=1e-13)


@given(arrays(np.float32, 24, elements=finite), st.permutations(range(24)))
def test_the_order_of_the_weights_makes_no_difference(weights: Floats, order: list[int]) -> None:
    assert softmax_entropy(whole(weights[order])) == pytest.approx(
        softmax_entropy(whole(weights)), rel=1e-13, abs=1e-13
    )


@pytest.mark.parametrize("shift", [-1e30, -3e4, 3e4, 1e30])
def test_large_weights_do_not_overflow(shift: float) -> None:
    # of float32 numbers near 1e30 all are equal here
    weights = np.full((3, 5), shift, np.float32)
    assert softmax_entropy(whole(weights)) == pytest.approx(-log(1 / 15 + EPSILON), rel=1e-12)
    weights[0, 0] = np.float32(shift) + abs(np.float32(shift))
    assert softmax_entropy(whole(weights)) == pytest.approx(-log(1 + EPSILON), rel=1e-12)


def test_many_weights_keep_their_precision() -> None:
    """For many small weights it is -log(epsilon) less about exp(variance) / (epsilon n), a difference that counts."""
    weights = np.random.default_rng(5).standard_normal((1000, 1000)).astype(np.float32) * 0.05
    found = softmax_entropy(lambda: np.array_split(weights, 7))
    assert found == pytest.approx(by_formula(weights), rel=1e-12)
    assert -log(EPSILON) - found == pytest.approx(exp(0.05**2) / (EPSILON * weights.size), rel=1e-2)


def test_what_has_no_entropy() -> None:
    assert isnan(softmax_entropy(whole(np.array([[1, np.inf]], np.float32))))
    assert isnan(softmax_entropy(whole(np.array([[1, np.nan]], np.float32))))
    with pytest.raises(ValueError, match="without weights"):
        softmax_entropy(list)


def test_tensors_of_a_file(tmp_path: Path) -> None:
    bad = random_weights(2, 4, 64)
    bad[3, 5] = np.inf
    tensors = {"a.weight": random_weights(1, 3, 70, 64), "b.weight": bad}
    model = open_gguf(write_gguf(tmp_path / "m.gguf", tensors))
    a, b = model.tensors
    assert matrix_entropy(model, a, threads=2) == pytest.approx(
        by_formula(tensors["a.weight"].astype(np.float32)), rel=1e-12
    )
    with pytest.raises(SourceError, match=r"b\.weight"):
        matrix_entropy(model, b)


def test_larger_matrices_count_more() -> None:
    assert weighted_mean([1.0, 4.0], [2, 1]) == 2.0
