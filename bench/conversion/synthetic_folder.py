"""A Hugging Face folder of llama's shape with random weights, in shards of any size, written row by row."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import sentencepiece
from numpy.typing import NDArray

from bench.errors import BenchError
from converter.ingest.safetensors_folder import INDEX

_HEAD = 128
_CHUNK = 1 << 22
"""Weights in memory at a time."""
_SCALE = 0.02
"""Standard deviation of the weights, as models are initialised with."""
_BYTES = 2


@dataclass(frozen=True)
class FolderShape:
    """Sizes of a llama model; by default those of the one with 7 billion weights. Raises BenchError."""

    layers: int = 32
    hidden: int = 4096
    feed_forward: int = 11008
    vocabulary: int = 32000

    def __post_init__(self) -> None:
        if self.layers < 1 or self.vocabulary < LEAST_VOCABULARY or self.feed_forward < 1:
            raise BenchError(f"a model needs a layer, and a vocabulary of at least {LEAST_VOCABULARY} tokens")
        if self.hidden < _HEAD or self.hidden % _HEAD:
            raise BenchError(f"the hidden size must be a multiple of {_HEAD}, not {self.hidden}")

    @property
    def config(self) -> dict[str, object]:
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.hidden,
            "intermediate_size": self.feed_forward,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.hidden // _HEAD,
            "num_key_value_heads": self.hidden // _HEAD,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": False,
            "torch_dtype": "float16",
            "bos_token_id": 1,
            "eos_token_id": 2,
            "vocab_size": self.vocabulary,
        }

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Names, and shapes with the row length last."""
        hidden, inner = self.hidden, self.feed_forward
        yield "model.embed_tokens.weight", (self.vocabulary, hidden)
        for layer in range(self.layers):
            block = f"model.layers.{layer}"
            yield f"{block}.input_layernorm.weight", (hidden,)
            for part in "qkvo":
                yield f"{block}.self_attn.{part}_proj.weight", (hidden, hidden)
            yield f"{block}.post_attention_layernorm.weight", (hidden,)
            yield f"{block}.mlp.gate_proj.weight", (inner, hidden)
            yield f"{block}.mlp.up_proj.weight", (inner, hidden)
            yield f"{block}.mlp.down_proj.weight", (hidden, inner)
        yield "model.norm.weight", (hidden,)
        yield "lm_head.weight", (self.vocabulary, hidden)

    @property
    def nbytes(self) -> int:
        """Of all weights in F16."""
        return _BYTES * sum(prod(shape) for _, shape in self.tensors())


LEAST_VOCABULARY = 300


def train_tokenizer() -> bytes:
    """A SentencePiece model of a few hundred tokens, trained on the spot; llama.cpp's converter adds unused ones."""
    text = ["the quick brown fox jumps over the lazy dog", "pack my box with five dozen liquor jugs"] * 20
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text), model_writer=model, vocab_size=LEAST_VOCABULARY, byte_fallback=True,
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return model.getvalue()


def write_folder(shape: FolderShape, folder: Path, shard_bytes: int) -> None:
    """Write the model into a new folder, in shards of about so many bytes. `config.json` comes last."""
    folder.mkdir()
    (folder / "tokenizer.model").write_bytes(train_tokenizer())
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, sizes in shape.tensors():
        if shards[-1] and size + _BYTES * prod(sizes) > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = sizes
        size += _BYTES * prod(sizes)
    index: dict[str, str] = {}
    random = np.random.default_rng(0)
    for number, shard in enumerate(shards, 1):
        file = folder / f"model-{number:05}-of-{len(shards):05}.safetensors"
        with file.open("wb") as stream:
            _write_shard(stream, shard, random)
        index |= dict.fromkeys(shard, file.name)
    content = {"metadata": {"total_size": shape.nbytes}, "weight_map": index}
    (folder / INDEX).write_text(json.dumps(content))
    (folder / "config.json").write_text(json.dumps(shape.config))


def _write_shard(stream: BinaryIO, shard: Mapping[str, tuple[int, ...]], random: np.random.Generator) -> None:
    """In the format of safetensors, whose own writer wants all weights of a file in memory."""
    head: dict[str, object] = {}
    offset = 0
    for name, sizes in shard.items():
        end = offset + _BYTES * prod(sizes)
        head[name] = {"dtype": "F16", "shape": sizes, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(head).encode()
    stream.write(len(text).to_bytes(8, "little") + text)
    for sizes in shard.values():
        left = prod(sizes)
        while left:
            count = min(left, _CHUNK)
            values: NDArray[np.float32] = np.ones(count, dtype=np.float32)
            if len(sizes) > 1:
                random.standard_normal(dtype=np.float32, out=values)
                values *= np.float32(_SCALE)
            stream.write(values.astype("<f2").tobytes())
            left -= count
