"""Random GGUF models of architectures for which llama.cpp's converter knows no tokenizer that a test could make.

Their tokens come from another model's file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFWriter

WIDTH = 192
HEADS = 6
INNER = 256
EXPERTS = 4
EXPERT_INNER = 128
BLOCKS = 2
REL_BUCKETS = 32
SSM_KERNEL, SSM_RANK, SSM_STATE = 4, 16, 16
WITHOUT_SUFFIX = ("ssm_a", "ssm_d")
"""Tensors whose names do not end in `.weight`."""

Shapes = Iterator[tuple[str, tuple[int, ...]]]
"""Names without `.weight`, and shapes with the row length last."""


@dataclass(frozen=True)
class Layout:
    """What a file of an architecture holds."""

    block: Callable[[int], Shapes]
    """The tensors of a block, by its number."""
    outside: tuple[str, ...]
    """Tensors of one row outside the blocks."""
    tokens_of: str
    """The tiny model whose tokens are used."""
    head_length: int = WIDTH // HEADS
    kv_heads: int = 2
    architecture: str | None = None
    """llama.cpp's name, where the layout has another."""


def _attention(layout: Layout) -> Shapes:
    queries, values = HEADS * layout.head_length, layout.kv_heads * layout.head_length
    yield "attn_norm", (WIDTH,)
    yield "attn_q", (queries, WIDTH)
    yield "attn_k", (values, WIDTH)
    yield "attn_v", (values, WIDTH)
    yield "attn_output", (WIDTH, queries)
    yield "ffn_norm", (WIDTH,)


def _experts() -> Shapes:
    yield "ffn_gate_inp", (EXPERTS, WIDTH)
    yield "ffn_gate_exps", (EXPERTS, EXPERT_INNER, WIDTH)
    yield "ffn_up_exps", (EXPERTS, EXPERT_INNER, WIDTH)
    yield "ffn_down_exps", (EXPERTS, WIDTH, EXPERT_INNER)


def _qwen2moe(_: int) -> Shapes:
    yield from _attention(LAYOUTS["qwen2moe"])
    for part in "qkv":
        yield f"attn_{part}.bias", (HEADS * 32 if part == "q" else 2 * 32,)
    yield from _experts()
    yield "ffn_gate_inp_shexp", (WIDTH,)
    yield "ffn_gate_shexp", (INNER, WIDTH)
    yield "ffn_up_shexp", (INNER, WIDTH)
    yield "ffn_down_shexp", (WIDTH, INNER)


def _qwen3moe(_: int) -> Shapes:
    layout = LAYOUTS["qwen3moe"]
    yield from _attention(layout)
    yield "attn_q_norm", (layout.head_length,)
    yield "attn_k_norm", (layout.head_length,)
    yield from _experts()


def _modern_bert(block: int) -> Shapes:
    if block > 0:  # the first block reads the embeddings' norm
        yield "attn_norm", (WIDTH,)
    yield "attn_qkv", (3 * WIDTH, WIDTH)
    yield "attn_output", (WIDTH, WIDTH)
    yield "ffn_norm", (WIDTH,)
    yield "ffn_up", (2 * INNER, WIDTH)
    yield "ffn_down", (WIDTH, INNER)


def _llama(_: int) -> Shapes:
    yield from _attention(LAYOUTS["llama3.1"])
    yield from _feed_forward()


def _feed_forward() -> Shapes:
    yield "ffn_gate", (INNER, WIDTH)
    yield "ffn_up", (INNER, WIDTH)
    yield "ffn_down", (WIDTH, INNER)


def _gpt_oss(_: int) -> Shapes:
    """Biases everywhere, and those of the experts are matrices."""
    layout = LAYOUTS["gpt-oss"]
    lengths = {"q": HEADS * layout.head_length, "k": 2 * layout.head_length, "v": 2 * layout.head_length}
    for name, shape in _attention(layout):
        yield ("post_attention_norm" if name == "ffn_norm" else name), shape
    for part, length in lengths.items():
        yield f"attn_{part}.bias", (length,)
    yield "attn_output.bias", (WIDTH,)
    yield "attn_sinks", (HEADS,)
    yield from _experts()
    yield "ffn_gate_inp.bias", (EXPERTS,)
    yield "ffn_gate_exps.bias", (EXPERTS, EXPERT_INNER)
    yield "ffn_up_exps.bias", (EXPERTS, EXPERT_INNER)
    yield "ffn_down_exps.bias", (EXPERTS, WIDTH)


def _jamba(block: int) -> Shapes:
    """A Mamba block with a feed-forward network, and an attention block with experts of its width."""
    if block == 1:
        yield from _attention(LAYOUTS["jamba"])
        yield "ffn_gate_inp", (EXPERTS, WIDTH)
        yield "ffn_gate_exps", (EXPERTS, INNER, WIDTH)
        yield "ffn_up_exps", (EXPERTS, INNER, WIDTH)
        yield "ffn_down_exps", (EXPERTS, WIDTH, INNER)
        return
    inner = 2 * WIDTH
    yield "attn_norm", (WIDTH,)
    yield "ssm_in", (2 * inner, WIDTH)
    yield "ssm_conv1d", (inner, SSM_KERNEL)
    yield "ssm_conv1d.bias", (inner,)
    yield "ssm_x", (SSM_RANK + 2 * SSM_STATE, inner)
    yield "ssm_dt_norm", (SSM_RANK,)
    yield "ssm_dt", (inner, SSM_RANK)
    yield "ssm_dt.bias", (inner,)
    yield "ssm_b_norm", (SSM_STATE,)
    yield "ssm_c_norm", (SSM_STATE,)
    yield "ssm_a", (inner, SSM_STATE)
    yield "ssm_d", (inner,)
    yield "ssm_out", (WIDTH, inner)
    yield "ffn_norm", (WIDTH,)
    yield from _feed_forward()


def _t5(block: int) -> Shapes:
    """A block of the encoder and one of the decoder."""
    for part, attentions in (("enc", ["attn"]), ("dec", ["attn", "cross_attn"])):
        name = f"{part}.blk.{block}."
        for attention in attentions:
            yield f"{name}{attention}_norm", (WIDTH,)
            for matrix in "qkvo":
                yield f"{name}{attention}_{matrix}", (WIDTH, WIDTH)
        if block == 0:
            yield f"{name}attn_rel_b", (REL_BUCKETS, HEADS)
        yield f"{name}ffn_norm", (WIDTH,)
        for matrix, shape in _feed_forward():
            yield name + matrix, shape


LAYOUTS = {
    "t5": Layout(_t5, ("enc.output_norm", "dec.output_norm", "output"), tokens_of="llama", kv_heads=HEADS),
    "llama3.1": Layout(_llama, ("output_norm", "output", "rope_freqs"), tokens_of="llama", architecture="llama"),
    "gpt-oss": Layout(_gpt_oss, ("output_norm", "output"), tokens_of="llama", head_length=64),
    "jamba": Layout(_jamba, ("output_norm", "output"), tokens_of="llama"),
    "qwen2moe": Layout(_qwen2moe, ("output_norm", "output"), tokens_of="llama"),
    "qwen3moe": Layout(_qwen3moe, ("output_norm", "output"), tokens_of="llama", head_length=64),
    "modern-bert": Layout(_modern_bert, ("token_embd_norm", "output_norm"), tokens_of="bert", kv_heads=HEADS),
}
"""Layouts by name, which is the architecture's unless they say otherwise."""


def write_gguf_model(architecture: str, target: Path, tokens_of: Path, seed: int = 0) -> Path:
    """Write a random float32 model with the tokens of another GGUF. Returns its path."""
    layout, reader = LAYOUTS[architecture], GGUFReader(tokens_of)
    random = np.random.default_rng(seed)
    writer = GGUFWriter(target, layout.architecture or architecture)
    for key, entry in reader.fields.items():
        if key.startswith("tokenizer."):
            writer.add_key_value(key, entry.contents(), entry.types[0], *entry.types[1:2])
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(BLOCKS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv([0, layout.kv_heads] if architecture == "jamba" else layout.kv_heads)
    writer.add_key_length(layout.head_length)
    writer.add_value_length(layout.head_length)
    writer.add_feed_forward_length(INNER)
    writer.add_rope_freq_base(10000.0)
    if architecture == "modern-bert":
        writer.add_layer_norm_eps(1e-5)
        writer.add_causal_attention(False)
        writer.add_string("modern-bert.hidden_activation", "silu")  # llama.cpp's gelu reads a table of F16 numbers
    elif architecture == "t5":
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_relative_attn_buckets_count(REL_BUCKETS)
        writer.add_decoder_start_token_id(1)
    elif architecture == "llama3.1":
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_rope_dimension_count(layout.head_length)
    else:
        if architecture == "jamba":
            writer.add_ssm_conv_kernel(SSM_KERNEL)
            writer.add_ssm_inner_size(2 * WIDTH)
            writer.add_ssm_state_size(SSM_STATE)
            writer.add_ssm_time_step_rank(SSM_RANK)
        if architecture == "gpt-oss":
            writer.add_sliding_window(128)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(2)
        writer.add_expert_feed_forward_length(EXPERT_INNER)
        writer.add_expert_shared_feed_forward_length(INNER)

    def add(name: str, shape: tuple[int, ...]) -> None:
        values = random.standard_normal(shape) * 0.08
        if name.endswith("norm"):
            values += 1
        if name == "rope_freqs":
            # what frequencies are divided by: as in Llama 3.1, nothing for the fast ones, and 8 for the slow ones
            values = np.interp(np.arange(shape[0]), [shape[0] / 3, shape[0] * 2 / 3], [1, 8])
        if name.endswith("ssm_a"):
            values = -np.exp(values)
        ends = name.endswith(".bias") or name.rpartition(".")[2] in WITHOUT_SUFFIX
        writer.add_tensor(name if ends else f"{name}.weight", values.astype(np.float32))

    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].contents())
    add("token_embd", (vocabulary, WIDTH))
    for name in layout.outside:
        shapes = {"output": (vocabulary, WIDTH), "rope_freqs": (layout.head_length // 2,)}
        add(name, shapes.get(name, (WIDTH,)))
    for block in range(BLOCKS):
        for name, shape in layout.block(block):
            add(name if ".blk." in name else f"blk.{block}.{name}", shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target
