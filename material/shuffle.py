"""Shuffle the channels of a network without changing its function, and store it in F16.

A model whose weights were quantised lies on the grid of some type, and quantising it to that type again is free. After
the shuffle no weight is in the block that it was rounded in, so comparisons between types are fair.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter
from gguf.quants import dequantize
from numpy.typing import NDArray

ARCHITECTURES = ("qwen2", "llama", "gemma3")

# tensor: what its rows and its columns (or, of a vector, its values) run over; None is left in order
_AXES: Mapping[str, tuple[str | None, ...]] = {
    "token_embd.weight": (None, "residual"),
    "output.weight": (None, "residual"),
    "output_norm.weight": ("residual",),
    "rope_freqs.weight": (None,),
    "attn_norm.weight": ("residual",),
    "attn_q.weight": (None, "residual"),
    "attn_q.bias": (None,),
    "attn_q_norm.weight": (None,),
    "attn_k.weight": (None, "residual"),
    "attn_k.bias": (None,),
    "attn_k_norm.weight": (None,),
    "attn_v.weight": ("values", "residual"),
    "attn_v.bias": ("values",),
    "attn_output.weight": ("residual", "heads"),
    "post_attention_norm.weight": ("residual",),
    "ffn_norm.weight": ("residual",),
    "ffn_gate.weight": ("hidden", "residual"),
    "ffn_up.weight": ("hidden", "residual"),
    "ffn_down.weight": ("residual", "hidden"),
    "post_ffw_norm.weight": ("residual",),
}


@dataclass(frozen=True)
class Shape:
    """The widths of a network that the shuffle needs."""

    residual: int
    hidden: int
    heads: int
    kv_heads: int
    value_length: int

    @classmethod
    def of(cls, reader: GGUFReader, architecture: str) -> "Shape":
        def get(key: str, default: int | None = None) -> int:
            field = reader.fields.get(f"{architecture}.{key}")
            value = default if field is None else field.contents()
            if value is None:
                raise ValueError(f"the file has no {architecture}.{key}")
            return int(value)

        residual, heads = get("embedding_length"), get("attention.head_count")
        return cls(
            residual=residual,
            hidden=get("feed_forward_length"),
            heads=heads,
            kv_heads=get("attention.head_count_kv", heads),
            value_length=get("attention.value_length", residual // heads),
        )

    def permutation(self, axis: str, layer: int) -> NDArray[np.int64]:
        """The new order of an axis. The same in every tensor that shares the axis, whatever is read first."""
        if axis == "residual":
            return np.random.default_rng(1).permutation(self.residual)
        if axis == "hidden":
            return np.random.default_rng([2, layer + 1]).permutation(self.hidden)
        value = [
            np.random.default_rng([3, layer + 1, head]).permutation(self.value_length) for head in range(self.kv_heads)
        ]
        # "values": rows of the value projection; "heads": its outputs as the query heads that share them see them
        count = self.kv_heads if axis == "values" else self.heads
        return np.concatenate([h * self.value_length + value[h * self.kv_heads // count] for h in range(count)])


def shuffled(name: str, weights: NDArray[np.float32], shape: Shape) -> NDArray[np.float32]:
    """One tensor (rows, columns) or (values,) in the new order. Raises ValueError for a tensor that is not known."""
    match = re.fullmatch(r"(?:blk\.(\d+)\.)?(.+)", name)
    assert match is not None
    layer = int(match[1]) if match[1] else -1
    axes = _AXES.get(match[2])
    if axes is None or len(axes) != weights.ndim:
        raise ValueError(f"no shuffle is known for tensor {name} of {weights.ndim} dimensions")
    for dimension, axis in enumerate(axes):
        if axis is not None:
            weights = weights.take(shape.permutation(axis, layer), axis=dimension)
    return np.ascontiguousarray(weights)


def shuffle_channels(source: Path, target: Path) -> None:
    """Write the GGUF `source` as an F16 GGUF with shuffled channels. Raises ValueError for what it does not know."""
    reader = GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    if architecture not in ARCHITECTURES:
        raise ValueError(f"no shuffle is known for architecture {architecture}; only for {', '.join(ARCHITECTURES)}")
    shape = Shape.of(reader, architecture)
    writer = GGUFWriter(target, architecture, use_temp_file=True)
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in ("general.architecture", "general.file_type"):
            continue
        if field.types[0] == GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), field.types[0])
    writer.add_file_type(1)
    for tensor in reader.tensors:
        rows_first = [int(length) for length in reversed(tensor.shape)]
        weights = dequantize(tensor.data, tensor.tensor_type).astype(np.float32).reshape(rows_first)
        weights = shuffled(tensor.name, weights, shape)
        writer.add_tensor(tensor.name, weights if weights.ndim == 1 else weights.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
