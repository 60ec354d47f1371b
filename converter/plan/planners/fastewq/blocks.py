"""Parameters of each block: from a `config.json` alone, or from the head of a GGUF."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import OptionError
from converter.plan.blocks import block_order
from gguf_files.names import BLOCK, block_name
from gguf_files.source import Source

FIRST_BLOCK = 2
"""exec_index of the first block; the embeddings have 1."""


@dataclass(frozen=True)
class BlockShape:
    """What FastEWQ knows of a block."""

    name: str
    """Start of its tensors' GGUF names: `blk.0`."""
    parameters: int
    """Norms and biases included."""


def blocks_of_model(source: Source) -> list[BlockShape]:
    """Raises OptionError for a model without blocks."""
    parameters: dict[str, int] = {}
    for tensor in source.tensors:
        if match := BLOCK.match(tensor.name):
            name = match["block"]
            parameters[name] = parameters.get(name, 0) + tensor.weights
    if not parameters:
        raise OptionError("the model has no blocks (blk.N) to plan by; use another planner")
    return [BlockShape(name, parameters[name]) for name in sorted(parameters, key=block_order)]


def blocks_of_config(path: Path) -> list[BlockShape]:
    """From a `config.json`, without the weights. Raises OptionError for an architecture whose blocks are not known."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise OptionError(f"{path} cannot be read: {e.strerror}") from None
    except ValueError:
        raise OptionError(f"{path} is not JSON; give the config.json of a Hugging Face model") from None
    config = config.get("text_config", config) if isinstance(config, dict) else {}
    kind = str(config.get("model_type"))
    if kind not in _EXTRAS:
        raise OptionError(
            f"the parameters of {kind} blocks are not known from {path.name}; give the GGUF of the model, whose head "
            f"is enough. Known are {', '.join(_EXTRAS)}"
        )
    try:
        blocks = int(config["num_hidden_layers"])
        return [BlockShape(block_name(i), _parameters(config, kind, i)) for i in range(blocks)]
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as e:
        raise OptionError(f"{path} lacks a size that its blocks' parameters follow from ({e})") from None


def _parameters(config: Mapping[str, Any], kind: str, block: int) -> int:
    width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    head = int(config.get("head_dim") or width // heads)
    queries, keys = heads * head, int(config.get("num_key_value_heads") or heads) * head
    attention = 2 * width * queries + 2 * width * keys
    return attention + _feed_forward(config, width, block) + _EXTRAS[kind](config, width, head, queries + 2 * keys)


def _feed_forward(config: Mapping[str, Any], width: int, block: int) -> int:
    """Gate, up and down, of all experts where there are any."""
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    dense = block in (config.get("mlp_only_layers") or ()) or (block + 1) % int(config.get("decoder_sparse_step") or 1)
    if not experts or dense:
        return 3 * width * int(config["intermediate_size"])
    size = int(config.get("moe_intermediate_size") or config["intermediate_size"])
    shared = int(config.get("shared_expert_intermediate_size") or 0)
    # the router, and a gate for the shared expert
    return experts * 3 * width * size + experts * width + (3 * width * shared + width if shared else 0)


def _norms(count: int) -> Callable[[Mapping[str, Any], int, int, int], int]:
    return lambda config, width, head, qkv: count * width


_EXTRAS: Mapping[str, Callable[[Mapping[str, Any], int, int, int], int]] = {
    "llama": _norms(2),
    "mistral": _norms(2),
    "mixtral": _norms(2),
    "gemma": _norms(2),
    "gemma2": _norms(4),
    "gemma3_text": lambda config, width, head, qkv: 4 * width + 2 * head,
    "phi3": _norms(2),
    "qwen2": lambda config, width, head, qkv: 2 * width + qkv,
    "qwen2_moe": lambda config, width, head, qkv: 2 * width + qkv,
    "qwen3": lambda config, width, head, qkv: 2 * width + 2 * head,
    "qwen3_moe": lambda config, width, head, qkv: 2 * width + 2 * head,
    # norms with a bias
    "stablelm": lambda config, width, head, qkv: 4 * width + (qkv if config.get("use_qkv_bias") else 0),
}
"""Norms and biases by model_type, from the configuration, width, size of a head, and outputs of queries to values."""
