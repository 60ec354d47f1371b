"""Predicted errors beside those of real rounding."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize, quantize
from numpy.typing import NDArray

from converter.plan.planners.losses import F16_ERROR, Q8_0_ERROR, TensorLoss
from converter.plan.planners.predicted_error import measured_losses
from eoq_formats import kernels
from eoq_formats.types import weight_type
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.samples.memory_model import MemoryStatistics

N, ROWS, TOKENS = 128, 96, 3000
NAME = "blk.0.ffn_up.weight"


def some_inputs(seed: int) -> NDArray[np.float64]:
    """(tokens, n), correlated, of channels of different size."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((TOKENS, N)) @ (np.eye(N) + 0.1 * random.standard_normal((N, N)))
    return np.asarray(mixed * np.exp(0.5 * random.standard_normal(N)))


def relative_error(weights: NDArray[np.float32], rounded: NDArray[np.float32], inputs: NDArray[np.float64]) -> float:
    error, output = inputs @ (weights - rounded).T, inputs @ weights.T
    return float((error**2).sum() / (output**2).sum())


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_predictions_of_rounding_to_nearest(tmp_path: Path, diagonal_only: bool) -> None:
    weights = random_weights(1, ROWS, N, dtype=np.float32).astype(np.float32)
    inputs = some_inputs(2)
    if diagonal_only:
        inputs = np.random.default_rng(3).standard_normal((TOKENS, N)) * np.exp(0.02 * np.arange(N))
    model = open_gguf(write_gguf(tmp_path / "m.gguf", {NAME: weights}))
    seen: list[int] = []
    found = measured_losses(
        model, model.tensors, MemoryStatistics({NAME: inputs}, diagonal_only), 0.02, 1, done=seen.append
    )[NAME]
    assert seen == [ROWS * N]
    eight = dequantize(quantize(weights, T.Q8_0), T.Q8_0)
    half = weights.astype(np.float16).astype(np.float32)
    # an error of 96 * 128 weights, the larger channels of which count most
    assert found.of(T.Q8_0) == pytest.approx(relative_error(weights, eight, inputs), rel=0.15)
    assert found.of(T.F16) == pytest.approx(relative_error(weights, half, inputs), rel=0.25)
    four = kernels.dequantize(kernels.quantize(weights, weight_type("eoq4")).data, weight_type("eoq4"))
    to_nearest = found.nearest * found.of(T(weight_type("eoq4").id)) / found.feedback
    assert to_nearest == pytest.approx(relative_error(weights, four, inputs), rel=0.1)
    assert found.feedback < found.nearest * (1.01 if diagonal_only else 0.95)


def test_experts_count_by_their_tokens(tmp_path: Path) -> None:
    name = "blk.0.ffn_up_exps.weight"
    weights = random_weights(1, 2, ROWS, N, dtype=np.float32)
    model = open_gguf(write_gguf(tmp_path / "m.gguf", {name: weights}))
    first, second = some_inputs(2), 30 * some_inputs(3)

    def loss(*inputs: NDArray[np.float64]) -> TensorLoss:
        return measured_losses(model, model.tensors, MemoryStatistics({name: list(inputs)}), 0.02, 1)[name]

    def alone(expert: int, inputs: NDArray[np.float64]) -> TensorLoss:
        one = open_gguf(write_gguf(tmp_path / "one.gguf", {NAME: weights[expert]}))
        return measured_losses(one, one.tensors, MemoryStatistics({NAME: inputs}), 0.02, 1)[NAME]

    both, rare = loss(first, second), loss(first, second[:1])
    only_first, only_second = alone(0, first), alone(1, second)
    # the second's inputs are 900 times as strong
    assert both.nearest == pytest.approx(only_second.nearest, rel=0.01)
    assert both.feedback == pytest.approx(only_second.feedback, rel=0.01)
    # a single token of 3001 counts for nothing, as it is planned by the moments of all
    assert rare.feedback == pytest.approx(only_first.feedback, rel=0.01)
    assert rare.feedback != pytest.approx(only_second.feedback, rel=0.05)


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_experts_that_saw_few_tokens_are_planned_by_the_moments_of_all(tmp_path: Path, diagonal_only: bool) -> None:
    """As they are rounded: with 40 tokens each where full moments need 64, or with one where a diagonal needs two."""
    name = "blk.0.ffn_up_exps.weight"
    weights = random_weights(1, 2, ROWS, N, dtype=np.float32)
    model = open_gguf(write_gguf(tmp_path / "m.gguf", {name: weights}))
    tokens = 1 if diagonal_only else 40
    few = [some_inputs(seed)[:tokens] for seed in (2, 3)]

    def loss(inputs: list[NDArray[np.float64]]) -> TensorLoss:
        statistics = MemoryStatistics({name: inputs}, diagonal_only)
        assert (statistics.experts_short_of_tokens(name) == [0, 1]) == (inputs is few)
        return measured_losses(model, model.tensors, statistics, 0.02, 1)[name]

    found = loss(few)
    # both experts saw all tokens, which gives each the moments that are pooled above
    pooled = loss([np.concatenate(few)] * 2)
    # their own moments as they are, of tokens that are seen twice
    own = loss([np.concatenate([x, x]) for x in few])
    assert found.feedback == pytest.approx(pooled.feedback, rel=1e-4)
    assert found.nearest == pytest.approx(pooled.nearest, rel=1e-4)
    assert found.feedback != pytest.approx(own.feedback, rel=0.01)


def test_what_nothing_is_known_of(tmp_path: Path) -> None:
    model = open_gguf(
        write_gguf(tmp_path / "m.gguf", {NAME: random_weights(1, 4, N), "output.weight": random_weights(2, 4, N)})
    )
    found = measured_losses(model, model.tensors, MemoryStatistics({NAME: some_inputs(1)}), 0.02, 1)
    assert list(found) == [NAME]
    assert TensorLoss().of(T.Q8_0) == Q8_0_ERROR and TensorLoss().of(T.F16) == F16_ERROR


def test_errors_on_normally_distributed_weights() -> None:
    weights = np.random.default_rng(7).standard_normal((400, 512)).astype(np.float32)
    eight = dequantize(quantize(weights, T.Q8_0), T.Q8_0)
    half = weights.astype(np.float16).astype(np.float32)
    squares = float((weights**2).sum(dtype=np.float64))
    assert float(((weights - eight) ** 2).sum(dtype=np.float64)) / squares == pytest.approx(Q8_0_ERROR, rel=0.05)
    assert float(((weights - half) ** 2).sum(dtype=np.float64)) / squares == pytest.approx(F16_ERROR, rel=0.2)
