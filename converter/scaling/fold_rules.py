"""Which tensors of an architecture may exchange scales: rules as data, in GGUF tensor names."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from gguf_files.names import OUTPUT, OUTPUT_NORM, TOKEN_EMBEDDINGS


@dataclass(frozen=True)
class Refusal:
    """A fold that is not made, for the report."""

    what: str
    """Tensor, block or model."""
    reason: str


class Rows(Enum):
    """Which rows of a producer give the channels. Always its last ones."""

    ALL = "all"
    UP = "second half: gate and up in one tensor"
    VALUES = "values: query, key and value in one tensor"


@dataclass(frozen=True)
class Rule:
    """A fold within a block, by tensor names without the block's number."""

    kind: str
    producers: Mapping[str, Rows]
    """Tensors whose rows are scaled where they are present. One weight must be among them."""
    consumers: tuple[str, ...]
    """Tensors whose columns are scaled where they are present."""
    gate: tuple[str, ...] = ()
    """One of these must be present: without a gate a nonlinearity follows the producer."""
    grouped: bool = False
    """Whether channels are attention heads."""
    per_expert: bool = False

    @property
    def names(self) -> frozenset[str]:
        return frozenset((*self.producers, *self.consumers, *self.gate))


_ATTN_NORM = Rule(
    "attn_norm",
    {"attn_norm.weight": Rows.ALL, "attn_norm.bias": Rows.ALL},
    ("attn_q.weight", "attn_k.weight", "attn_v.weight", "attn_qkv.weight"),
)
_FFN_NORM = Rule(
    "ffn_norm",
    {"ffn_norm.weight": Rows.ALL, "ffn_norm.bias": Rows.ALL},
    ("ffn_gate.weight", "ffn_up.weight", "ffn_gate_inp.weight", "ffn_gate_exps.weight", "ffn_up_exps.weight"),
)
_FFN_NORM_SHARED = Rule(
    "ffn_norm",
    _FFN_NORM.producers,
    (*_FFN_NORM.consumers, "ffn_gate_shexp.weight", "ffn_up_shexp.weight", "ffn_gate_inp_shexp.weight"),
)
_VALUES = Rule(
    "attn_v",
    {
        "attn_v.weight": Rows.ALL,
        "attn_qkv.weight": Rows.VALUES,
        "attn_qkv.bias": Rows.VALUES,
        "attn_v.bias": Rows.ALL,
    },
    ("attn_output.weight",),
    grouped=True,
)
_UP = Rule(
    "ffn_up",
    {"ffn_up.weight": Rows.ALL, "ffn_up.bias": Rows.ALL},
    ("ffn_down.weight",),
    gate=("ffn_gate.weight",),
)
_UP_FUSED = Rule("ffn_up", {"ffn_up.weight": Rows.UP, "ffn_up.bias": Rows.UP}, ("ffn_down.weight",))
_UP_EXPERTS = Rule(
    "ffn_up_exps",
    {"ffn_up_exps.weight": Rows.ALL},
    ("ffn_down_exps.weight",),
    gate=("ffn_gate_exps.weight",),
    per_expert=True,
)
_UP_SHARED = Rule(
    "ffn_up_shexp",
    {"ffn_up_shexp.weight": Rows.ALL},
    ("ffn_down_shexp.weight",),
    gate=("ffn_gate_shexp.weight",),
)

_BIASES = frozenset(
    ("attn_q.bias", "attn_k.bias", "attn_output.bias", "ffn_gate.bias", "ffn_down.bias", "attn_rot_embd.weight")
)
_HEAD_NORMS = frozenset(("attn_q_norm.weight", "attn_k_norm.weight"))
_POST_NORMS = frozenset(("post_attention_norm.weight", "post_ffw_norm.weight"))
MODEL_TENSORS = frozenset(
    (
        TOKEN_EMBEDDINGS,
        OUTPUT,
        "output.bias",
        OUTPUT_NORM,
        "output_norm.bias",
        "rope_freqs.weight",
        "rope_factors_long.weight",
        "rope_factors_short.weight",
    )
)
"""Tensors outside the blocks of a language model that has nothing but an output after its last norm."""


@dataclass(frozen=True)
class Architecture:
    rules: tuple[Rule, ...]
    unaffected: frozenset[str] = _BIASES
    """Other tensors of a block that no fold changes the meaning of."""
    refused: tuple[Refusal, ...] = ()
    """Folds that one might look for, and why they are not legal."""
    has_output: bool = True

    @property
    def known(self) -> frozenset[str]:
        return self.unaffected.union(*(rule.names for rule in self.rules))


_DENSE = (_ATTN_NORM, _VALUES, _FFN_NORM, _UP)
_EXPERTS = (_ATTN_NORM, _VALUES, _FFN_NORM, _UP_EXPERTS)
_SHARED_EXPERTS = (_ATTN_NORM, _VALUES, _FFN_NORM_SHARED, _UP_EXPERTS, _UP_SHARED)
_AFTER_RESIDUAL = Refusal(
    "post_attention_norm, post_ffw_norm", "what they give goes straight into the residual, which no fold may change"
)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": Architecture((*_DENSE, _UP_EXPERTS)),
    "qwen2": Architecture(_DENSE),
    "qwen2moe": Architecture(_SHARED_EXPERTS),
    "qwen3": Architecture(_DENSE, _BIASES | _HEAD_NORMS),
    "qwen3moe": Architecture(_EXPERTS, _BIASES | _HEAD_NORMS),
    "gemma": Architecture(_DENSE),
    # the norms' weights in a GGUF have gemma's "1 +" in them already
    "gemma2": Architecture(_DENSE, _BIASES | _POST_NORMS, (_AFTER_RESIDUAL,)),
    "gemma3": Architecture(_DENSE, _BIASES | _POST_NORMS | _HEAD_NORMS, (_AFTER_RESIDUAL,)),
    "phi3": Architecture((_ATTN_NORM, _VALUES, _FFN_NORM, _UP_FUSED)),
    "bert": Architecture(
        (_VALUES,),
        _BIASES
        | {
            "attn_q.weight",
            "attn_k.weight",
            "attn_output_norm.weight",
            "attn_output_norm.bias",
            "layer_output_norm.weight",
            "layer_output_norm.bias",
            "ffn_up.weight",
            "ffn_up.bias",
            "ffn_down.weight",
        },
        (
            Refusal("attn_output_norm, layer_output_norm, token_embd_norm", "what they give is the residual as well"),
            Refusal("ffn_up", "a nonlinearity without a gate (GELU) stands between it and ffn_down"),
        ),
        has_output=False,
    ),
    "modern-bert": Architecture((_ATTN_NORM, _VALUES, _FFN_NORM, _UP_FUSED), frozenset(), has_output=False),
}
"""Architectures by `general.architecture`. Each is held to its word by tests/integration/test_folding.py."""
