"""Small GGUF files for tests, made with gguf-py's own writer."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.generic]]


def random_weights(seed: int, *shape: int, dtype: type = np.float16) -> NDArray[np.floating]:
    """Gaussian weights of a size that models have; shape with the row length last."""
    weights: NDArray[np.floating] = (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(dtype)
    return weights


def tiny_model(row: int = 128, tied: bool = False) -> dict[str, NDArray[np.generic]]:
    """Tensors of one block under the names of the llama architecture."""
    tensors: dict[str, NDArray[np.generic]] = {
        "token_embd.weight": random_weights(1, 40, row),
        "output.weight": random_weights(2, 40, row),
        "blk.0.attn_norm.weight": random_weights(3, row, dtype=np.float32),
        "blk.0.attn_q.weight": random_weights(4, row, row),
        "blk.0.ffn_down.weight": random_weights(5, row, 2 * row),
        "blk.0.ffn_gate_inp.weight": random_weights(6, 4, row, dtype=np.float32),
        "blk.0.ffn_up_exps.weight": random_weights(7, 4, 2 * row, row),
    }
    if tied:
        del tensors["output.weight"]
    return tensors


def write_gguf(
    path: Path,
    tensors: Tensors,
    metadata: Callable[[GGUFWriter], None] = lambda writer: None,
    architecture: str = "llama",
) -> Path:
    """Write a model; bfloat16 and quantised tensors come as those of `as_type`."""
    writer = GGUFWriter(path, architecture)
    metadata(writer)
    for name, data in tensors.items():
        kind = getattr(data, "gguf_type", None)
        writer.add_tensor(name, np.asarray(data), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class TypedBytes(np.ndarray[tuple[int, ...], np.dtype[np.uint8]]):
    """The packed bytes of a tensor, with its type."""

    gguf_type: GGMLQuantizationType


def as_type(weights: NDArray[np.generic], kind: GGMLQuantizationType) -> TypedBytes:
    """Weights packed to a type that gguf-py can quantise to."""
    packed = np.ascontiguousarray(quantize(weights.astype(np.float32), kind)).view(np.uint8).view(TypedBytes)
    packed.gguf_type = kind
    return packed
