"""Random Hugging Face model folders of several architectures, small enough for a test, with a tokenizer of their own.

Row lengths are chosen so that 128-wide and 64-wide blocks both occur (hidden 192 = 3 * 64, feed-forward 256 = 2 * 128).
"""

import io
import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
import torch
import transformers

VOCABULARY = 384
HIDDEN = 192
FEED_FORWARD = 256

_COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": FEED_FORWARD,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "llama": lambda: transformers.LlamaConfig(**_COMMON, tie_word_embeddings=False),
    "qwen2": lambda: transformers.Qwen2Config(**_COMMON, tie_word_embeddings=True),
    "qwen3": lambda: transformers.Qwen3Config(**_COMMON, head_dim=64, tie_word_embeddings=True),
    "gemma3": lambda: transformers.Gemma3TextConfig(
        # six layers: llama.cpp takes every sixth as the one with global attention
        **(_COMMON | {"num_hidden_layers": 6}),
        head_dim=64,
        sliding_window=32,
        query_pre_attn_scalar=64,
    ),
    "phi3": lambda: transformers.Phi3Config(**_COMMON, original_max_position_embeddings=512, tie_word_embeddings=False),
    "mixtral": lambda: transformers.MixtralConfig(
        **_COMMON, num_local_experts=4, num_experts_per_tok=2, tie_word_embeddings=False
    ),
}
"""Architectures by the name used in tests."""

MORE_CONFIGS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "gemma": lambda: transformers.GemmaConfig(**_COMMON, head_dim=32),
    "gemma2": lambda: transformers.Gemma2Config(
        **_COMMON, head_dim=64, sliding_window=32, query_pre_attn_scalar=64, attn_implementation="eager"
    ),
}
"""Those that have tests of single stages only."""


def write_model(architecture: str, folder: Path, seed: int = 0) -> None:
    """Write config, float32 safetensors and tokenizer of a random model into `folder`."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    config = (CONFIGS | MORE_CONFIGS)[architecture]()
    config.dtype = "float32"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            # larger than the default, so that attention and experts differ between tokens
            torch.nn.init.normal_(parameter, std=0.08)
        elif name.endswith("norm.weight"):
            torch.nn.init.normal_(parameter, mean=0.0 if architecture.startswith("gemma") else 1.0, std=0.1)
        else:
            torch.nn.init.normal_(parameter, std=0.1)
    model.save_pretrained(folder)
    _write_tokenizer(folder)


def _write_tokenizer(folder: Path) -> None:
    """A SentencePiece BPE tokenizer of VOCABULARY pieces, byte fallback included."""
    lines = [f"the model number {i} answers {i * i} questions about {chr(97 + i % 26)}" for i in range(400)]
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=trained,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        pad_id=0,
        bos_id=1,
        eos_id=2,
        unk_id=3,
        control_symbols=["<|endoftext|>"],  # llama.cpp expects it of phi3
        minloglevel=2,
    )
    (folder / "tokenizer.model").write_bytes(trained.getvalue())
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": "<pad>", "add_bos_token": True}))
