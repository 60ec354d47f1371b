"""Folded weights: the same function, whatever the pieces they are read in."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf.quants import dequantize
from numpy.typing import NDArray

from converter.scaling.fold_groups import FoldGroup, Producer
from converter.scaling.folding import Fold, Folded, FoldedStatistics
from eoq_formats.errors import NonFiniteWeightError, ScaleOverflowError
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Floats
from tests.samples.memory_model import MemoryStatistics, MemoryWeights

random = np.random.default_rng(3)


def floats(*shape: int) -> Floats:
    return random.standard_normal(shape).astype(np.float32)


def scales(*shape: int) -> Floats:
    return np.exp(random.standard_normal(shape)).astype(np.float32)


def whole(folded: Folded, tensor: TensorInfo) -> NDArray[np.float64]:
    rows = folded.read(tensor, 0, tensor.rows).astype(np.float64)
    return rows.reshape(tuple(reversed(tensor.shape)))


def close(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max()))


def test_values_and_output_with_grouped_heads_and_a_norm_before() -> None:
    heads, kv_heads, length, width = 6, 2, 4, 16
    weights = MemoryWeights(
        {
            "norm": floats(width),
            "qkv": floats((heads + 2 * kv_heads) * length, width),
            "attn_qkv.bias": floats((heads + 2 * kv_heads) * length),
            "out": floats(width, heads * length),
        }
    )
    first = (heads + kv_heads) * length
    norm, qkv, out = (weights.info(name) for name in ("norm", "qkv", "out"))
    bias = weights.info("attn_qkv.bias")
    values = FoldGroup("attn_v", (Producer(qkv, first), Producer(bias, first)), (out,), heads * length, heads, kv_heads)
    before = FoldGroup("attn_norm", (Producer(norm),), (qkv,), width)
    folded = Folded(weights, [Fold(values, scales(1, values.sources)), Fold(before, scales(1, width))])

    def run(tensors: list[NDArray[np.float64]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Queries and keys, and what the output gives, for one input and equal attention to it by all heads."""
        norm, qkv, bias, out = tensors
        each = qkv @ (np.linspace(-1, 1, width) * norm) + bias
        shared = np.repeat(each[first:].reshape(kv_heads, length), heads // kv_heads, axis=0)
        return each[:first], out @ shared.reshape(-1)

    original = run([weights.tensors[name].astype(np.float64) for name in ("norm", "qkv", "attn_qkv.bias", "out")])
    changed = run([whole(folded, t) for t in (norm, qkv, bias, out)])
    assert all(close(a, b) for a, b in zip(changed, original, strict=True))
    assert not np.allclose(whole(folded, out), weights.tensors["out"])
    assert [folded.touches(name) for name in ("norm", "qkv", "attn_qkv.bias", "out", "other")] == [True] * 4 + [False]


@pytest.mark.parametrize("piece", [1, 3, 7, 40])
def test_experts_have_scales_of_their_own_in_any_pieces(piece: int) -> None:
    experts, inner, width = 3, 8, 5
    weights = MemoryWeights(
        {"up": floats(experts, inner, width), "down": floats(experts, width, inner), "up.bias": floats(experts, inner)}
    )
    up, down, bias = weights.infos
    group = FoldGroup("ffn_up_exps", (Producer(up), Producer(bias)), (down,), inner, experts=experts)
    fold = Fold(group, scales(experts, inner))
    folded = Folded(weights, [fold])
    up_scales, down_scales = fold.scales[:, :, None], fold.scales[:, None]
    expected = {
        "up": weights.tensors["up"] / up_scales,
        "down": weights.tensors["down"] * down_scales,
        "up.bias": weights.tensors["up.bias"] / fold.scales,
    }
    for tensor in weights.infos:
        parts = [folded.read(tensor, i, min(i + piece, tensor.rows)).copy() for i in range(0, tensor.rows, piece)]
        got = np.concatenate(parts).reshape(weights.tensors[tensor.name].shape)
        assert np.allclose(got, expected[tensor.name], rtol=1e-6), tensor.name


def one_fold(weights: MemoryWeights) -> Folded:
    norm, up = weights.infos[:2]
    group = FoldGroup("ffn_norm", (Producer(norm),), (up,), up.row_length)
    return Folded(weights, [Fold(group, scales(1, up.row_length))])


@pytest.mark.parametrize("kind", [T.F32, T.F64, T.F16, T.BF16], ids=lambda t: t.name)
def test_stored_rows_are_the_folded_floats_in_the_type_of_the_tensor(kind: T) -> None:
    weights = MemoryWeights({"norm": floats(32), "up": floats(6, 32)})
    folded = one_fold(weights)
    for name in weights.tensors:
        info = weights.info(name, kind)
        stored = folded.stored(info, 0, info.rows)
        assert stored.dtype == np.uint8 and stored.nbytes == info.nbytes and len(stored) == info.rows
        got = stored.view(np.float64) if kind == T.F64 else dequantize(stored, kind)
        precision = {T.F32: 0, T.F64: 0, T.F16: 2**-11, T.BF16: 2**-8}[kind]
        assert np.allclose(got, folded.read(info, 0, info.rows), rtol=precision, atol=1e-7)


def test_stored_rows_that_a_type_cannot_hold() -> None:
    weights = MemoryWeights({"norm": np.full(32, 60000, np.float32), "up": floats(6, 32)})
    folded = one_fold(weights)
    with pytest.raises(ScaleOverflowError, match=r"tensor norm: .* too large for f16; .*--awq off"):
        folded.stored(weights.info("norm", T.F16), 0, 1)
    with pytest.raises(ValueError, match="Q8_0"):
        folded.stored(weights.info("up", T.Q8_0), 0, 6)


@pytest.mark.parametrize("kind", [T.F32, T.F16, T.BF16], ids=lambda t: t.name)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_stored_rows_that_are_no_numbers_are_refused_by_name(kind: T, bad: float) -> None:
    norm, router = floats(32), floats(6, 32)
    router[4, 3] = norm[5] = bad
    weights = MemoryWeights({"norm": norm, "up": router})
    folded = one_fold(weights)
    with pytest.raises(NonFiniteWeightError, match=r"^tensor norm has a NaN or an infinity in row 0; "):
        folded.stored(weights.info("norm", kind), 0, 1)
    with pytest.raises(NonFiniteWeightError, match=r"^tensor up has a NaN or an infinity in row 4; "):
        folded.stored(weights.info("up", kind), 2, 6)
    folded.stored(weights.info("up", kind), 0, 4)


def test_a_fold_of_ones_touches_nothing() -> None:
    weights = MemoryWeights({"norm": floats(8), "up": floats(6, 8)})
    norm, up = weights.infos
    group = FoldGroup("ffn_norm", (Producer(norm),), (up,), 8)
    folded = Folded(weights, [Fold(group, np.ones((1, 8), np.float32))])
    assert not folded.touches("norm") and folded.input_scales("up") is None
    assert np.array_equal(folded.read(up, 0, 6), weights.tensors["up"])


def test_scales_must_be_positive_and_one_for_each_channel() -> None:
    norm, up = TensorInfo("norm", (8,), T.F32), TensorInfo("up", (8, 6), T.F32)
    group = FoldGroup("ffn_norm", (Producer(norm),), (up,), 8)
    for wrong in (np.ones((1, 7)), np.ones(8), np.zeros((1, 8)), np.full((1, 8), np.nan)):
        with pytest.raises(ValueError, match="norm: scales"):
            Fold(group, wrong.astype(np.float32))


def test_a_tensor_is_scaled_by_one_fold_each_way() -> None:
    weights = MemoryWeights({"norm": floats(8), "up": floats(6, 8)})
    norm, up = weights.infos
    fold = Fold(FoldGroup("ffn_norm", (Producer(norm),), (up,), 8), scales(1, 8))
    with pytest.raises(ValueError, match="two folds scale the columns of up"):
        Folded(weights, [fold, fold])


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_statistics_of_the_folded_model_are_those_of_the_scaled_inputs(diagonal_only: bool) -> None:
    inputs = [random.standard_normal((50, 8)), random.standard_normal((20, 8))]
    tensors = {"up": floats(2, 8, 4), "down": floats(2, 4, 8), "other": floats(4, 8)}
    weights = MemoryWeights(tensors)
    group = FoldGroup("ffn_up_exps", (Producer(weights.info("up")),), (weights.info("down"),), 8, experts=2)
    fold = Fold(group, scales(2, 8))
    given: dict[str, NDArray[np.float64] | list[NDArray[np.float64]]] = {"down": inputs, "other": inputs[0]}
    statistics = FoldedStatistics(MemoryStatistics(given, diagonal_only), Folded(weights, [fold]))
    scaled = [x / s for x, s in zip(inputs, fold.scales.astype(np.float64), strict=True)]
    expected = MemoryStatistics({"down": scaled, "other": inputs[0]}, diagonal_only)
    assert list(statistics.tensor_names) == ["down", "other"] and statistics.row_length("down") == 8
    assert statistics.input_key("down") != statistics.input_key("other")
    for name in given:
        assert np.array_equal(statistics.counts(name), expected.counts(name))
        assert np.allclose(statistics.diagonal(name), expected.diagonal(name))
        for expert in range(len(statistics.counts(name))):
            got, true = statistics.moments(name, expert), expected.moments(name, expert)
            assert (got is None) == (true is None) == diagonal_only
            assert got is None or true is None or np.allclose(got, true, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("diagonal_only", [False, True])
def test_pooled_moments_get_the_scales_of_the_expert_that_they_stand_in_for(diagonal_only: bool) -> None:
    inputs = [random.standard_normal((50, 8)), random.standard_normal((20, 8))]
    weights = MemoryWeights({"up": floats(2, 8, 4), "down": floats(2, 4, 8)})
    group = FoldGroup("ffn_up_exps", (Producer(weights.info("up")),), (weights.info("down"),), 8, experts=2)
    fold = Fold(group, scales(2, 8))
    statistics = FoldedStatistics(MemoryStatistics({"down": inputs}, diagonal_only), Folded(weights, [fold]))
    everything = np.concatenate(inputs)
    for expert in range(2):
        scaled = everything / fold.scales[expert].astype(np.float64)
        expected = scaled.T @ scaled / len(scaled)
        pooled = statistics.pooled_moments("down", expert)
        assert np.allclose(pooled, np.diag(expected) if diagonal_only else expected, rtol=1e-4, atol=1e-5)
