"""A GGUF model of llama architecture with random F16 weights: speed depends on shapes, not on what a model knows.

It has no vocabulary (tokenizer `none`), only a number of tokens, which is enough for llama-bench.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from numpy.typing import NDArray

from bench.errors import BenchError
from gguf_files.names import OUTPUT, OUTPUT_NORM, TOKEN_EMBEDDINGS, block_name

HEAD = 64
ROW_UNIT = 256
"""All of llama.cpp's types are made of blocks that divide this; for other rows llama-quantize takes another type."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a model. Raises BenchError where they do not go together."""

    hidden: int = 2048
    feed_forward: int = 5632
    layers: int = 8
    vocabulary: int = 32000
    experts: int = 0
    """Experts of each feed-forward layer; 0: a dense model."""
    experts_used: int = 0

    def __post_init__(self) -> None:
        for name, size in (("hidden size", self.hidden), ("feed-forward size", self.feed_forward)):
            if size < ROW_UNIT or size % ROW_UNIT:
                raise BenchError(f"the {name} must be a multiple of {ROW_UNIT}, not {size}")
        if self.layers < 1 or self.vocabulary < 1:
            raise BenchError("a model needs at least one layer and one token")
        if self.experts < 0 or not bool(self.experts) <= self.experts_used <= self.experts:
            raise BenchError(f"{self.experts} experts of which {self.experts_used} are used make no model")

    @property
    def heads(self) -> int:
        return self.hidden // HEAD

    @property
    def kv_heads(self) -> int:
        """A quarter of the heads."""
        return self.heads // 4

    @property
    def name(self) -> str:
        """For folders."""
        experts = f"-e{self.experts_used}of{self.experts}" if self.experts else ""
        return f"llama-h{self.hidden}-f{self.feed_forward}-l{self.layers}-v{self.vocabulary}{experts}"


def tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names, and shapes with the row length last. Those of one dimension, and the routers, are F32."""
    hidden, inner, values = shape.hidden, shape.feed_forward, shape.kv_heads * HEAD
    experts = (shape.experts,) if shape.experts else ()
    suffix = "_exps" if shape.experts else ""
    yield TOKEN_EMBEDDINGS, (shape.vocabulary, hidden)
    for layer in range(shape.layers):
        block = block_name(layer)
        yield f"{block}.attn_norm.weight", (hidden,)
        yield f"{block}.attn_q.weight", (hidden, hidden)
        yield f"{block}.attn_k.weight", (values, hidden)
        yield f"{block}.attn_v.weight", (values, hidden)
        yield f"{block}.attn_output.weight", (hidden, hidden)
        yield f"{block}.ffn_norm.weight", (hidden,)
        if experts:
            yield f"{block}.ffn_gate_inp.weight", (shape.experts, hidden)
        yield f"{block}.ffn_gate{suffix}.weight", (*experts, inner, hidden)
        yield f"{block}.ffn_up{suffix}.weight", (*experts, inner, hidden)
        yield f"{block}.ffn_down{suffix}.weight", (*experts, hidden, inner)
    yield OUTPUT_NORM, (hidden,)
    yield OUTPUT, (shape.vocabulary, hidden)


def is_quantised(name: str, dimensions: int) -> bool:
    """Whether a tensor gets the type of the file: all matrices but the routers of experts."""
    return dimensions > 1 and not name.endswith("ffn_gate_inp.weight")


def write_model(shape: Shape, target: Path, seed: int = 0) -> None:
    """Write the file, tensor by tensor."""
    writer = GGUFWriter(target, "llama")
    writer.add_name(shape.name)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_rope_dimension_count(HEAD)
    writer.add_layer_norm_rms_eps(1e-5)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(shape.experts_used)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_tokenizer_model("none")
    writer.add_file_type(1)  # mostly F16
    for name, size in tensors(shape):
        dtype = _dtype(name, size)
        writer.add_tensor_info(name, size, dtype, int(np.prod(size)) * dtype.itemsize)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    random = np.random.default_rng(seed)
    for name, size in tensors(shape):
        values: NDArray[np.float32] = np.ones(size, dtype=np.float32)
        if len(size) > 1:
            values = random.standard_normal(size, dtype=np.float32)
            values /= np.float32(np.sqrt(size[-1]))  # outputs as large as inputs
        writer.write_tensor_data(values.astype(_dtype(name, size)))
    writer.close()


def write_imatrix(shape: Shape, target: Path) -> None:
    """Write an importance matrix of llama.cpp in which all inputs are alike."""
    writer = GGUFWriter(target, "imatrix")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["none"])
    writer.add_uint32("imatrix.chunk_count", 1)
    writer.add_uint32("imatrix.chunk_size", 1)
    for name, size in tensors(shape):
        if is_quantised(name, len(size)):
            matrices = size[0] if len(size) == 3 else 1
            writer.add_tensor(f"{name}.in_sum2", np.ones((matrices, size[-1]), dtype=np.float32))
            writer.add_tensor(f"{name}.counts", np.ones((matrices, 1), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _dtype(name: str, size: tuple[int, ...]) -> np.dtype[np.float16] | np.dtype[np.float32]:
    return np.dtype(np.float16) if is_quantised(name, len(size)) else np.dtype(np.float32)
