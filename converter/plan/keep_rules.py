"""Tensors that are never quantised: what they are, and why.

llama-quantize leaves the same ones alone, but for the small projections of state-space layers.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from gguf_files.tensor_types import INTEGER_TYPES
from gguf_files.tensors import TensorInfo


@dataclass(frozen=True)
class KeepRule:
    """Tensors whose name the pattern is found in stay as they are."""

    pattern: re.Pattern[str]
    reason: str
    architecture: str | None = None
    """The one architecture that the rule is for; None for all."""


def _any_of(reason: str, names: Sequence[str], architecture: str | None = None) -> KeepRule:
    return KeepRule(re.compile("|".join(re.escape(name) for name in names)), reason, architecture)


KEEP_RULES: tuple[KeepRule, ...] = (
    KeepRule(re.compile(r"(?<!weight)\Z"), "no weight matrix"),
    _any_of("norm", ["_norm.weight"]),
    _any_of("router: small, and decides which experts run", ["ffn_gate_inp.weight"]),
    _any_of("table of token ids", ["ffn_gate_tid2eid.weight"]),
    KeepRule(
        re.compile(r"\A(position_embd|token_types)\.weight\Z"), "position or segment embeddings: small, read by row"
    ),
    _any_of("AltUp and Laurel: a few numbers", ["altup", "laurel"]),
    _any_of("small projection of per-layer embeddings", ["per_layer_model_proj"]),
    _any_of("short convolution: rows of a few numbers", ["ssm_conv1d", "shortconv.conv.weight"]),
    KeepRule(
        re.compile(r"\.ssm_(alpha|beta|ba|dt|f_[ab]|g_[ab])\.weight"),
        "small, and decides how long the state of a layer lasts",
    ),
    _any_of("attention indexer: small", ["indexer.k_proj.weight", "indexer.q_proj.weight"]),
    KeepRule(
        re.compile(r"time_mix_(first|w[012]|v[012]|a[012]|g[12]|decay_w[12]|lerp_fused)\.weight"),
        "RWKV's low-rank mixing: small",
    ),
    _any_of("relative position bias", ["attn_rel_b.weight"]),
    _any_of("positions of image or sound", [".position_embd", "sam.pos_embd", ".rel_pos"]),
    _any_of("convolution over image patches", ["sam.neck.", "sam.net_", ".patch_embd", ".patch_merger"]),
    _any_of("codebook of sounds", ["a.rvq.codebook", "mm.a.code_embd"]),
    _any_of(
        "sensitive small projection of GLM5-next",
        [
            "hc_",
            "indexer.attn_q_b",
            "indexer.attn_k",
            "indexer.proj",
            "indexer_compressor_gate",
            "indexer_compressor_ape",
            "attn_kv_a_mqa.weight",
            "attn_k_b.weight",
            "attn_v_b.weight",
        ],
        architecture="glm5-next",
    ),
)


def keep_reason(tensor: TensorInfo, architecture: str) -> str | None:
    """Why a tensor stays as it is, or None for one that is quantised."""
    if tensor.weights == 0:
        return "empty"
    if tensor.dimensions < 2:
        return "one-dimensional"
    if tensor.type in INTEGER_TYPES:
        return "integers"
    for rule in KEEP_RULES:
        if rule.architecture in (None, architecture) and rule.pattern.search(tensor.name):
            return rule.reason
    return None


def weights_to_plan(tensors: Sequence[TensorInfo], architecture: str) -> list[TensorInfo]:
    """All that a conversion quantises."""
    return [t for t in tensors if keep_reason(t, architecture) is None]
