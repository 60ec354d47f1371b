"""GGUF tensor names that more than one part of the code has to know."""

import re

TOKEN_EMBEDDINGS = "token_embd.weight"
PER_LAYER_TOKEN_EMBEDDINGS = "per_layer_token_embd.weight"
OUTPUT = "output.weight"
OUTPUT_NORM = "output_norm.weight"

BLOCK = re.compile(r"(?P<block>(?P<prefix>(?:.*\.)?)blk\.(?P<index>\d+))\.(?P<part>.+)")
"""The name of a tensor of a block: `block` is `blk.3`, `part` is `attn_q.weight`. Encoder-decoder models have prefixes,
as in `enc.blk.3`."""

MOST_BLOCKS = 512
"""llama.cpp's LLAMA_MAX_LAYERS."""


def block_name(index: int) -> str:
    """`blk.3`"""
    return f"blk.{index}"
