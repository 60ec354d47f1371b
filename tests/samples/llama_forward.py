"""The forward pass of a Llama in NumPy, from the page of its authors: what flows into each matrix."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EPSILON = 1e-6


def _norm(x: Floats, weight: Floats) -> Floats:
    return np.asarray(x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight)


def _rotate(x: Floats, frequencies: Floats) -> Floats:
    """Rotary positions on neighbouring pairs of (tokens, heads, length)."""
    angles = np.arange(len(x))[:, None, None] * frequencies
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def _attention(q: Floats, k: Floats, v: Floats) -> Floats:
    """Causal; heads of keys and values serve several of the queries each. All (tokens, heads, length)."""
    groups = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, groups, axis=1), np.repeat(v, groups, axis=1)
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[-1])
    scores[:, np.triu(np.ones(scores.shape[1:], dtype=bool), 1)] = -np.inf
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return np.asarray(np.einsum("hts,shd->thd", shares / shares.sum(-1, keepdims=True), v))


def llama_inputs(
    weights: dict[str, Floats], tokens: NDArray[np.integer], heads: int, kv_heads: int, base: float = 10000.0
) -> dict[str, Floats]:
    """Inputs (tokens, n) by the name of the matrix that they flow into, for one sequence.

    `weights` are a GGUF's, rows of matrices first; `rope_freqs.weight` divides the frequencies, as in Llama 3.1.
    """
    given: dict[str, Floats] = {}

    def product(name: str, x: Floats) -> Floats:
        given[f"{name}.weight"] = x
        return x @ weights[f"{name}.weight"].T

    length = weights["blk.0.attn_q.weight"].shape[0] // heads
    frequencies = base ** (-np.arange(0, length, 2) / length)
    if "rope_freqs.weight" in weights:
        frequencies = frequencies / weights["rope_freqs.weight"]
    x = weights["token_embd.weight"][tokens]
    block = 0
    while f"blk.{block}.attn_q.weight" in weights:
        name = f"blk.{block}."
        inner = _norm(x, weights[f"{name}attn_norm.weight"])
        q, k, v = (
            product(f"{name}attn_{part}", inner).reshape(len(x), count, length)
            for part, count in (("q", heads), ("k", kv_heads), ("v", kv_heads))
        )
        mixed = _attention(_rotate(q, frequencies), _rotate(k, frequencies), v)
        x = x + product(f"{name}attn_output", mixed.reshape(len(x), -1))
        inner = _norm(x, weights[f"{name}ffn_norm.weight"])
        gate, up = product(f"{name}ffn_gate", inner), product(f"{name}ffn_up", inner)
        x = x + product(f"{name}ffn_down", gate / (1 + np.exp(-gate)) * up)
        block += 1
    product("output", _norm(x, weights["output_norm.weight"]))
    return given
