"""The search for scales: better where something is to be had, never worse, and safe on odd statistics."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.scaling.fold_groups import FoldGroup, Producer
from converter.scaling.folding import Fold
from converter.scaling.sample import SampleOptions, sample_group
from converter.scaling.search import SearchOptions, search
from eoq_formats import kernels
from eoq_formats.types import weight_type_for_row
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats
from tests.samples.memory_model import MemoryStatistics, MemoryWeights

N, ROWS, TOKENS = 128, 192, 2000
NEAREST = SearchOptions(feedback=False)
FEEDBACK = SearchOptions(feedback=True)


def to_nearest(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
    t = weight_type_for_row("eoq4", tensor.row_length)
    assert t is not None
    return kernels.dequantize(kernels.quantize(rows, t).data, t)


def uneven(random: np.random.Generator, *shape: int, spread: float = 1.0) -> NDArray[np.float64]:
    """Gaussian numbers whose channels differ in size."""
    return np.asarray(random.standard_normal(shape) * np.exp(spread * random.standard_normal(shape[-1])))


def example(
    *names: str, seed: int = 1, diagonal_only: bool = False
) -> tuple[FoldGroup, MemoryWeights, MemoryStatistics]:
    """A norm and its consumers, all of one input of uneven channels."""
    random = np.random.default_rng(seed)
    tensors = {"norm": np.ones(N, np.float32)} | {n: uneven(random, ROWS, N).astype(np.float32) for n in names}
    weights = MemoryWeights(tensors)
    inputs = uneven(random, TOKENS, N)
    group = FoldGroup("attn_norm", (Producer(weights.info("norm")),), tuple(map(weights.info, names)), N)
    return group, weights, MemoryStatistics(dict.fromkeys(names, inputs), diagonal_only, dict.fromkeys(names, "input"))


def gain(fold: Fold) -> float:
    assert fold.error_before is not None and fold.error_after is not None
    return fold.error_after / fold.error_before


def distance(one: Fold, other: Fold) -> float:
    """Root mean square of the logarithm of the scales' ratios."""
    return float(np.sqrt((np.log(one.scales / other.scales) ** 2).mean()))


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_to_nearest_the_square_root_of_inputs_over_weights_is_best(diagonal_only: bool) -> None:
    group, weights, statistics = example("q", "k", diagonal_only=diagonal_only)
    fold = search(group, {"q", "k"}, statistics, weights, to_nearest, NEAREST)
    assert (fold.alpha, fold.beta, fold.refined) == (0.5, 0.5, False)
    assert gain(fold) < 0.7
    assert fold.scales.dtype == np.float32 and np.exp(np.log(fold.scales).mean()) == pytest.approx(1, rel=1e-3)
    energy = sum((weights.tensors[name].astype(np.float64) ** 2).sum(axis=0) for name in "qk")
    expected = (statistics.diagonal("q")[0] / energy) ** 0.25
    # both consumers count about equally here, and the sample has 128 of 192 rows
    assert np.corrcoef(np.log(fold.scales[0]), np.log(expected))[0, 1] > 0.98


def test_under_feedback_scales_even_out_the_weights() -> None:
    group, weights, statistics = example("q")
    fold = search(group, {"q"}, statistics, weights, ideal_feedback, FEEDBACK)
    assert fold.refined and gain(fold) < 0.9
    energy = (weights.tensors["q"].astype(np.float64) ** 2).sum(axis=0)
    assert np.corrcoef(np.log(fold.scales[0]), np.log(energy))[0, 1] < -0.9


def ideal_feedback(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
    """Rows with an error that costs what error feedback would: its variance evenly over the inputs' principal axes."""
    values, axes = np.linalg.eigh(moments.astype(np.float64) + 1e-3 * np.eye(len(moments)))
    variances = np.exp(np.log(values).mean()) / values * 0.01 * (rows.astype(np.float64) ** 2).mean()
    noise = np.random.default_rng(0).standard_normal(rows.shape) * np.sqrt(variances) @ axes.T
    return np.asarray(rows + noise.astype(np.float32))


@pytest.mark.parametrize("options", [NEAREST, FEEDBACK], ids=["nearest", "feedback"])
def test_never_worse_than_without_scales(options: SearchOptions) -> None:
    group, weights, statistics = example("q")

    def hates_scales(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
        own = weights.tensors["q"]
        known = any(np.array_equal(rows[0], row) for row in own)
        return np.asarray(rows * np.float32(0.9 if known else 0.5))

    fold = search(group, {"q"}, statistics, weights, hates_scales, options)
    assert (fold.scales == 1).all() and gain(fold) == 1


def test_even_channels_are_left_alone_without_asking_the_quantiser() -> None:
    random = np.random.default_rng(2)
    weights = MemoryWeights({"norm": np.ones(N, np.float32), "q": random.standard_normal((ROWS, N)).astype(np.float32)})
    group = FoldGroup("attn_norm", (Producer(weights.info("norm")),), (weights.info("q"),), N)
    statistics = MemoryStatistics({"q": random.standard_normal((TOKENS, N))})

    def never(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
        raise AssertionError("nothing to gain")

    fold = search(group, {"q"}, statistics, weights, never, replace(NEAREST, least_gain=0.05))
    assert (fold.scales == 1).all() and fold.error_before is None


def test_the_longest_rows_get_no_scales_under_feedback() -> None:
    group, weights, statistics = example("q")
    short = replace(FEEDBACK, longest_channels=N - 1)
    fold = search(group, {"q"}, statistics, weights, ideal_feedback, short)
    assert (fold.scales == 1).all() and fold.error_before is None
    assert not (search(group, {"q"}, statistics, weights, to_nearest, replace(short, feedback=False)).scales == 1).all()


def test_only_quantised_tensors_with_statistics_count() -> None:
    group, weights, statistics = example("q", "router")
    for quantized in (set[str](), {"norm"}):
        fold = search(group, quantized, statistics, weights, to_nearest, NEAREST)
        assert (fold.scales == 1).all() and fold.error_before is None
    alone = FoldGroup(group.kind, group.producers, group.consumers[:1], N)
    chosen = search(group, {"q"}, statistics, weights, to_nearest, NEAREST)
    assert np.array_equal(chosen.scales, search(alone, {"q"}, statistics, weights, to_nearest, NEAREST).scales)
    del statistics.inputs["router"]
    both = search(group, {"q", "router"}, statistics, weights, to_nearest, NEAREST)
    assert np.array_equal(chosen.scales, both.scales)


def test_rows_that_no_eoq_type_fits_are_left_alone() -> None:
    weights = MemoryWeights({"norm": np.ones(96, np.float32), "q": np.ones((4, 96), np.float32)})
    group = FoldGroup("attn_norm", (Producer(weights.info("norm")),), (weights.info("q"),), 96)
    fold = search(group, {"q"}, MemoryStatistics({"q": np.ones((9, 96))}), weights, to_nearest, NEAREST)
    assert (fold.scales == 1).all()


def test_consumers_count_relative_to_their_outputs() -> None:
    group, weights, statistics = example("q", "v")
    fold = search(group, {"q", "v"}, statistics, weights, to_nearest, NEAREST)
    weights.tensors = {**weights.tensors, "q": 64 * weights.tensors["q"]}
    same = search(group, {"q", "v"}, statistics, weights, to_nearest, NEAREST)
    assert np.allclose(same.scales, fold.scales, rtol=1e-4)
    plain = search(
        group, {"q", "v"}, statistics, weights, to_nearest, replace(NEAREST, sample=SampleOptions(balance=0.0))
    )
    alone = search(group, {"q"}, statistics, weights, to_nearest, NEAREST)
    assert distance(plain, alone) < 0.05 < 0.2 < distance(same, alone)


def test_heads_that_share_values_share_scales() -> None:
    heads, kv_heads, length = 4, 2, 32
    random = np.random.default_rng(4)
    weights = MemoryWeights(
        {
            "v": random.standard_normal((kv_heads * length, N)).astype(np.float32),
            "out": uneven(random, ROWS, heads * length).astype(np.float32),
        }
    )
    v, out = weights.infos
    group = FoldGroup("attn_v", (Producer(v),), (out,), heads * length, heads, kv_heads)
    statistics = MemoryStatistics({"out": uneven(random, TOKENS, heads * length, spread=1.5)})
    fold = search(group, {"out"}, statistics, weights, to_nearest, NEAREST)
    assert fold.scales.shape == (1, kv_heads * length) and gain(fold) < 0.95
    assert np.array_equal(fold.channel_scales[:, :length], fold.channel_scales[:, length : 2 * length])


def experts_example(tokens: list[int]) -> tuple[FoldGroup, MemoryWeights, MemoryStatistics]:
    random, inner, width = np.random.default_rng(5), 64, 128
    count = len(tokens)
    weights = MemoryWeights(
        {
            "up": random.standard_normal((count, inner, width)).astype(np.float32),
            "down": np.stack([random.standard_normal((width, inner)) for _ in tokens]).astype(np.float32),
        }
    )
    up, down = weights.infos
    group = FoldGroup("ffn_up_exps", (Producer(up),), (down,), inner, experts=count)
    return group, weights, MemoryStatistics({"down": [uneven(random, n, inner, spread=2.0) for n in tokens]})


@pytest.mark.parametrize("options", [NEAREST, FEEDBACK], ids=["nearest", "feedback"])
def test_experts_get_scales_of_their_own(options: SearchOptions) -> None:
    group, weights, statistics = experts_example([500, 900, 0, 300])
    fold = search(group, {"down"}, statistics, weights, to_nearest, replace(options, sample=SampleOptions(experts=2)))
    assert fold.scales.shape == (4, 64)
    if not options.feedback:
        assert gain(fold) < 0.8
        # without a token, only the weights are known, and these are even
        assert fold.scales[2].std() < 0.1 and fold.scales[[0, 1, 3]].std(axis=1).min() > 0.3


def test_experts_that_saw_few_tokens_are_sampled_with_the_moments_of_all() -> None:
    """As they are rounded: the third and the fourth saw fewer than the 32 tokens that it takes."""
    group, weights, statistics = experts_example([40, 900, 20, 0])
    assert statistics.experts_short_of_tokens("down") == [2, 3]
    sample = sample_group(group, {"down"}, statistics, weights, SampleOptions())
    # no error of an expert without any token counts
    assert sorted(each.own for each in sample.inputs) == [0, 1, 2]
    for each in sample.inputs:
        expected = statistics.for_rounding("down", each.own)
        assert expected.is_pooled == (each.own == 2)
        assert np.array_equal(each.rounded.moments, expected.values)


def test_the_quantiser_is_tried_with_the_moments_of_all_where_an_expert_saw_few_tokens() -> None:
    group, weights, statistics = experts_example([20, 25])
    pooled = statistics.pooled_moments("down", 0)
    seen: list[Floats] = []

    def watch(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
        seen.append(moments)
        return to_nearest(tensor, rows, moments)

    search(group, {"down"}, statistics, weights, watch, replace(NEAREST, least_gain=-1.0))
    assert len(seen) == 4 and all(np.array_equal(moments, pooled) for moments in seen[:2])


def test_tensors_of_one_input_come_with_the_same_moments_one_after_the_other() -> None:
    group, weights, statistics = example("q", "k", "v")
    seen: list[tuple[str, Floats]] = []

    def watch(tensor: TensorInfo, rows: Floats, moments: Floats) -> Floats:
        seen.append((tensor.name, moments))
        return to_nearest(tensor, rows, moments)

    fold = search(group, {"q", "k", "v"}, statistics, weights, watch, NEAREST)
    assert [name for name, _ in seen] == ["q", "k", "v"] * 2
    assert seen[0][1] is seen[1][1] is seen[2][1] is not seen[3][1]
    scales = fold.scales[0].astype(np.float64)
    given = statistics.moments("q")
    assert given is not None and np.allclose(seen[0][1], given)
    assert np.allclose(seen[3][1], given / np.outer(scales, scales), rtol=1e-5)


def test_statistics_without_any_token_give_no_scales() -> None:
    group, weights, statistics = experts_example([0, 0])
    fold = search(group, {"down"}, statistics, weights, to_nearest, NEAREST)
    assert (fold.scales == 1).all() and fold.error_before is None


@pytest.mark.parametrize("options", [NEAREST, FEEDBACK], ids=["nearest", "feedback"])
def test_dead_channels_do_not_get_extreme_scales(options: SearchOptions) -> None:
    group, weights, statistics = example("q")
    statistics.inputs["q"][0][:, :5] = 0
    weights.tensors["q"][:, 5:9] = 0
    fold = search(group, {"q"}, statistics, weights, to_nearest, replace(options, least_gain=-1.0))
    assert np.isfinite(fold.scales).all()
    assert fold.scales.min() >= 1 / 32 and fold.scales.max() <= 32


def test_the_search_is_the_same_every_time() -> None:
    group, weights, statistics = example("q", "k")
    first, second = (search(group, {"q", "k"}, statistics, weights, to_nearest, NEAREST) for _ in range(2))
    assert np.array_equal(first.scales, second.scales) and first.error_after == second.error_after
