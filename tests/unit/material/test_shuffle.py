"""A shuffled network computes the same function: products of its matrices only change their order."""

import numpy as np
import pytest
from numpy.typing import NDArray

from material.shuffle import Shape, shuffled

SHAPE = Shape(residual=12, hidden=20, heads=6, kv_heads=2, value_length=4)


def matrix(rows: int, columns: int, seed: int) -> NDArray[np.float32]:
    """Small integers, so that sums are exact in any order."""
    return np.random.default_rng(seed).integers(-9, 10, (rows, columns)).astype(np.float32)


def test_feed_forward() -> None:
    up, down = matrix(20, 12, 1), matrix(12, 20, 2)
    new = shuffled("blk.1.ffn_down.weight", down, SHAPE) @ shuffled("blk.1.ffn_up.weight", up, SHAPE)
    residual = SHAPE.permutation("residual", 1)
    assert np.array_equal(new, (down @ up)[residual][:, residual])


def test_gate_and_up_are_shuffled_alike() -> None:
    up = matrix(20, 12, 1)
    assert np.array_equal(shuffled("blk.2.ffn_gate.weight", up, SHAPE), shuffled("blk.2.ffn_up.weight", up, SHAPE))


def test_attention_values_through_grouped_heads() -> None:
    v, o = matrix(2 * 4, 12, 3), matrix(12, 6 * 4, 4)

    def product(v: NDArray[np.float32], o: NDArray[np.float32]) -> NDArray[np.float32]:
        repeated = v.reshape(2, 4, 12).repeat(3, axis=0).reshape(6 * 4, 12)  # three query heads share a value head
        return o @ repeated

    new = product(shuffled("blk.0.attn_v.weight", v, SHAPE), shuffled("blk.0.attn_output.weight", o, SHAPE))
    residual = SHAPE.permutation("residual", 0)
    assert np.array_equal(new, product(v, o)[residual][:, residual])


def test_queries_see_the_shuffled_residual_stream() -> None:
    q, x = matrix(24, 12, 5), matrix(12, 1, 6)[:, 0]
    assert np.array_equal(shuffled("blk.0.attn_q.weight", q, SHAPE) @ shuffled("output_norm.weight", x, SHAPE), q @ x)


def test_every_weight_moves_and_none_is_lost() -> None:
    w = np.arange(20 * 12, dtype=np.float32).reshape(20, 12)
    new = shuffled("blk.0.ffn_up.weight", w, SHAPE)
    assert not np.array_equal(new, w) and np.array_equal(np.sort(new, axis=None), w.ravel())


def test_tied_embeddings() -> None:
    """The embeddings that a model ends with, too: the same logits from the shuffled residual stream."""
    embeddings, x = matrix(30, 12, 8), matrix(12, 1, 9)[:, 0]
    new = shuffled("token_embd.weight", embeddings, SHAPE)
    assert np.array_equal(new @ shuffled("output_norm.weight", x, SHAPE), embeddings @ x)


@pytest.mark.parametrize("name", ["blk.0.ffn_gate_exps.weight", "cls.weight"])
def test_unknown_tensor_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        shuffled(name, matrix(4, 4, 7), SHAPE)
