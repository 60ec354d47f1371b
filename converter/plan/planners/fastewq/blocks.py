"""Parameters of each block: from a `config.json` alone, or from the head of a GGUF."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.errors import OptionError
from converter.plan.blocks import block_order
from gguf_files.names import BLOCK, MOST_BLOCKS, block_name
from gguf_files.source import Source
from input_files.structured import read_json

FIRST_BLOCK = 2
"""exec_index of the first block; the embeddings have 1."""
MOST_OF_A_SIZE = 1 << 24
"""Of widths and numbers of experts, a hundred times what models have."""


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
    if len(parameters) > 2 * MOST_BLOCKS:  # of an encoder and a decoder
        raise OptionError(f"the model has {len(parameters)} blocks, more than llama.cpp runs; use another planner")
    return [BlockShape(name, parameters[name]) for name in sorted(parameters, key=block_order)]


def blocks_of_config(path: Path) -> list[BlockShape]:
    """From a `config.json`, without the weights. Raises OptionError for an architecture whose blocks are not known."""
    content = read_json(path, OptionError)
    config = content.get("text_config", content) if isinstance(content, dict) else content
    if not isinstance(config, dict):
        raise OptionError(f"{path} has no table of a model's sizes; give the config.json of a Hugging Face model")
    kind = str(config.get("model_type"))
    if kind not in _EXTRAS:
        raise OptionError(
            f"the parameters of {kind} blocks are not known from {path.name}; give the GGUF of the model, whose head "
            f"is enough. Known are {', '.join(_EXTRAS)}"
        )
    sizes = _Sizes(path, config)
    blocks = sizes["num_hidden_layers"]
    if blocks > MOST_BLOCKS:
        raise OptionError(f"{path} has num_hidden_layers = {blocks}, and llama.cpp runs up to {MOST_BLOCKS}; mend it")
    return [BlockShape(block_name(i), _parameters(sizes, kind, i)) for i in range(blocks)]


class _Sizes:
    """The whole numbers of a configuration. Raises OptionError for what is no size."""

    def __init__(self, path: Path, config: Mapping[str, Any]) -> None:
        self._path = path
        self._config = config

    def __getitem__(self, key: str) -> int:
        if (size := self.get(key)) < 1:
            raise OptionError(f"{self._path} lacks a size of its blocks ({key}); mend it, or give the model's GGUF")
        return size

    def get(self, key: str) -> int:
        """0 where there is none."""
        value = self._config.get(key) or 0
        if not isinstance(value, int) or not 0 <= value <= MOST_OF_A_SIZE:
            raise self._error(key, f"and sizes are whole numbers up to {MOST_OF_A_SIZE}")
        return int(value)

    def list_of(self, key: str) -> Sequence[Any]:
        value = self._config.get(key) or ()
        if not isinstance(value, list | tuple):
            raise self._error(key, "and not a list")
        return value

    def _error(self, key: str, why: str) -> OptionError:
        shown = repr(self._config[key])
        shown = shown if len(shown) <= 40 else shown[:37] + "..."
        return OptionError(f"{self._path} has {key} = {shown}, {why}; mend it, or give the GGUF of the model")


def _parameters(config: _Sizes, kind: str, block: int) -> int:
    width, heads = config["hidden_size"], config["num_attention_heads"]
    head = config.get("head_dim") or width // heads
    queries, keys = heads * head, (config.get("num_key_value_heads") or heads) * head
    attention = 2 * width * queries + 2 * width * keys
    return attention + _feed_forward(config, width, block) + _EXTRAS[kind](config, width, head, queries + 2 * keys)


def _feed_forward(config: _Sizes, width: int, block: int) -> int:
    """Gate, up and down, of all experts where there are any."""
    experts = config.get("num_local_experts") or config.get("num_experts")
    dense = block in config.list_of("mlp_only_layers") or (block + 1) % (config.get("decoder_sparse_step") or 1)
    if not experts or dense:
        return 3 * width * config["intermediate_size"]
    size = config.get("moe_intermediate_size") or config["intermediate_size"]
    shared = config.get("shared_expert_intermediate_size")
    # the router, and a gate for the shared expert
    return experts * 3 * width * size + experts * width + (3 * width * shared + width if shared else 0)


def _norms(count: int) -> Callable[[_Sizes, int, int, int], int]:
    return lambda config, width, head, qkv: count * width


_EXTRAS: Mapping[str, Callable[[_Sizes, int, int, int], int]] = {
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
