"""A random llama model as a small Hugging Face folder, with a SentencePiece tokenizer trained on the spot."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from numpy.typing import NDArray
from safetensors.numpy import save_file

from bench.conversion.synthetic_folder import train_tokenizer

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def write_tiny_llama(folder: Path, **config: Any) -> dict[str, NDArray[np.float32]]:
    """Write the model; returns its weights by Hugging Face name."""
    folder.mkdir()
    tokenizer = train_tokenizer()
    (folder / "tokenizer.model").write_bytes(tokenizer)
    vocabulary = sentencepiece.SentencePieceProcessor(model_proto=tokenizer).vocab_size()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": vocabulary} | config))
    random = np.random.default_rng(1)
    hidden, inner, layer = 128, 192, "model.layers.0."
    shapes = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        f"{layer}input_layernorm.weight": (hidden,),
        f"{layer}post_attention_layernorm.weight": (hidden,),
        f"{layer}self_attn.q_proj.weight": (hidden, hidden),
        f"{layer}self_attn.k_proj.weight": (hidden // 2, hidden),
        f"{layer}self_attn.v_proj.weight": (hidden // 2, hidden),
        f"{layer}self_attn.o_proj.weight": (hidden, hidden),
        f"{layer}mlp.gate_proj.weight": (inner, hidden),
        f"{layer}mlp.up_proj.weight": (inner, hidden),
        f"{layer}mlp.down_proj.weight": (hidden, inner),
    }
    weights = {name: (random.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors")
    return weights


_IN_MISTRAL_FORMAT = {
    "model.embed_tokens": "tok_embeddings",
    "lm_head": "output",
    "model.norm": "norm",
    "model.layers": "layers",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
}


def write_tiny_mistral(folder: Path) -> dict[str, NDArray[np.float32]]:
    """Write the model in Mistral's format alone; returns its weights by their names in that of Hugging Face."""
    weights = write_tiny_llama(folder)
    config = json.loads((folder / "config.json").read_text())
    renamed = {}
    for name, tensor in weights.items():
        for theirs, own in _IN_MISTRAL_FORMAT.items():
            name = name.replace(theirs, own)
        renamed[name] = tensor
    save_file(renamed, folder / "consolidated.safetensors")
    parameters = {
        "dim": config["hidden_size"],
        "n_layers": config["num_hidden_layers"],
        "head_dim": config["hidden_size"] // config["num_attention_heads"],
        "hidden_dim": config["intermediate_size"],
        "n_heads": config["num_attention_heads"],
        "n_kv_heads": config["num_key_value_heads"],
        "norm_eps": config["rms_norm_eps"],
        "rope_theta": config["rope_theta"],
        "vocab_size": config["vocab_size"],
        "max_position_embeddings": config["max_position_embeddings"],
    }
    (folder / "params.json").write_text(json.dumps(parameters))
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    return weights
