"""A random SmolVLM as a small Hugging Face folder: the tiny llama, a vision encoder of one layer, and a connector."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.samples.tiny_hf_model import write_tiny_llama

_HIDDEN, _INNER, _PATCH, _IMAGE = 32, 64, 4, 16
_SCALE = 2


def write_tiny_smolvlm(folder: Path) -> list[str]:
    """Write the model; returns the names of its tensors for images."""
    write_tiny_llama(folder, architectures=["VLlama3ForCausalLM"])
    text = json.loads((folder / "config.json").read_text())
    vision = {
        "model_type": "smolvlm_vision",
        "hidden_size": _HIDDEN,
        "intermediate_size": _INNER,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": _IMAGE,
        "patch_size": _PATCH,
    }
    config = {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "model_type": "smolvlm",
        "scale_factor": _SCALE,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "text_config": text,
        "vision_config": vision,
    }
    (folder / "config.json").write_text(json.dumps(config))
    preprocessor = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"longest_edge": _IMAGE}}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    layer = "model.vision_model.encoder.layers.0."
    shapes: dict[str, tuple[int, ...]] = {
        "model.vision_model.embeddings.patch_embedding.weight": (_HIDDEN, 3, _PATCH, _PATCH),
        "model.vision_model.embeddings.position_embedding.weight": ((_IMAGE // _PATCH) ** 2, _HIDDEN),
        "model.vision_model.post_layernorm.weight": (_HIDDEN,),
        **{f"{layer}layer_norm{i}.weight": (_HIDDEN,) for i in (1, 2)},
        **{
            f"{layer}self_attn.{name}.weight": (_HIDDEN, _HIDDEN) for name in ("q_proj", "k_proj", "v_proj", "out_proj")
        },
        f"{layer}mlp.fc1.weight": (_INNER, _HIDDEN),
        f"{layer}mlp.fc2.weight": (_HIDDEN, _INNER),
        "model.connector.modality_projection.proj.weight": (128, _HIDDEN * _SCALE**2),
    }
    random = np.random.default_rng(2)
    senses = {name: (random.standard_normal(shape) * 0.05).astype(np.float32) for name, shape in shapes.items()}
    weights = {
        name.replace("model.", "model.text_model.", 1) if name.startswith("model.") else name: tensor
        for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights | senses, folder / "model.safetensors")
    return sorted(senses)
