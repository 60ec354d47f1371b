"""A transformers model with the weights of a GGUF.

transformers reads GGUFs itself, but leaves weights random that it does not find, takes a Mixtral for a dense Llama, and
holds all weights in float32 besides the model. So it only makes the configuration here, and knows, tensor by tensor,
what llama.cpp's converter did to the weights.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import modeling_gguf_pytorch_utils as hf_gguf
from transformers.integrations.ggml import GGUF_CONFIG_MAPPING
from transformers.modeling_utils import no_init_weights

from converter.calibrate.bfloat16_matrices import use_bfloat16_matrices
from converter.calibrate.names import GgufNames
from converter.errors import CalibrationError
from gguf_files.names import OUTPUT, TOKEN_EMBEDDINGS
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from gguf_files.weights import RowWorkers, SourceWeights

_MODEL_TYPES = {"qwen2moe": "qwen2_moe", "qwen3moe": "qwen3_moe", "gemma3": "gemma3_text"}
"""Names of transformers for architectures of llama.cpp, where they differ."""
_OVERLOOKED = {
    "attention.key_length": "head_dim",
    "expert_feed_forward_length": "moe_intermediate_size",
    "expert_shared_feed_forward_length": "shared_expert_intermediate_size",
}
_GEMMA_27B = {"gemma2": 46, "gemma3": 62}
"""Layers of the Gemma models whose attention is scaled by the width of the model; llama.cpp tells them by the same."""


def model_from_gguf(path: Path, source: Source, bfloat16: bool, threads: int) -> Any:
    """Raises ValueError or KeyError for architectures that transformers does not know in GGUF form, and
    CalibrationError where a weight is missing."""
    config = _config(source)
    with no_init_weights():
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False)
    model.tie_weights()
    if bfloat16:
        use_bfloat16_matrices(model)
    names = GgufNames(source)
    tensors = {t.name: t for t in source.tensors}
    processor = hf_gguf.TENSOR_PROCESSORS.get(source.architecture, hf_gguf.TensorProcessor)(config=config.to_dict())
    with RowWorkers(threads) as workers:
        weights = SourceWeights(source, workers)
        for name, parameter in model.named_parameters():
            part = names.find(name)
            if part is None:
                raise CalibrationError(
                    f"{path} has no tensor for {name}, which transformers asks for; give the Hugging Face folder in "
                    "place of the GGUF"
                )
            _fill(parameter, tensors[part.tensor], part.expert, weights, processor)
    return model


def _config(source: Source) -> Any:
    """The configuration, by the table that transformers has for GGUF metadata."""
    model_type = _MODEL_TYPES.get(source.architecture, source.architecture)
    table = GGUF_CONFIG_MAPPING.get(source.architecture) or GGUF_CONFIG_MAPPING.get(model_type)
    if table is None:
        raise ValueError(f"transformers does not know {source.architecture} models in GGUF form")
    settings: dict[str, Any] = {
        setting: value
        for key, setting in table.items()
        if setting is not None and (value := source.value(f"{{arch}}.{key}")) is not None
    }
    tensors = {t.name: t for t in source.tensors}
    settings["vocab_size"] = tensors[TOKEN_EMBEDDINGS].rows
    settings["tie_word_embeddings"] = OUTPUT not in tensors
    for mark in ("bos", "eos", "padding"):
        number = source.value(f"tokenizer.ggml.{mark}_token_id")
        settings["pad_token_id" if mark == "padding" else f"{mark}_token_id"] = number
    experts = source.value("{arch}.expert_count")
    if source.architecture == "llama" and experts:
        model_type = "mixtral"
        settings["num_local_experts"] = experts
        settings["num_experts_per_tok"] = source.value("{arch}.expert_used_count")
    config = transformers.AutoConfig.for_model(model_type, **settings)
    _correct(config, source)
    return config


def _correct(config: Any, source: Source) -> None:
    """Set what transformers' table overlooks."""
    for key, setting in _OVERLOOKED.items():
        value = source.value(f"{{arch}}.{key}")
        if value is not None and (hasattr(config, setting) or setting == "head_dim"):
            setattr(config, setting, value)
    if source.architecture == "qwen3moe":
        config.norm_topk_prob = True  # llama.cpp knows them no other way
    if hasattr(config, "query_pre_attn_scalar"):
        wide = config.num_hidden_layers == _GEMMA_27B.get(source.architecture)
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads if wide else config.head_dim
    if source.value("{arch}.rope.scaling.type") == "linear":
        factor = source.value("{arch}.rope.scaling.factor")
        config.rope_scaling = {"rope_type": "linear", "factor": float(factor or 1)}


def _fill(
    parameter: torch.nn.Parameter, tensor: TensorInfo, expert: int | None, weights: SourceWeights, processor: Any
) -> None:
    """Set a parameter to a tensor, or to one expert's part of it."""
    if expert is None:
        values = weights.read(tensor, 0, tensor.rows).reshape(tensor.shape[::-1])
        values = processor.process(
            weights=values, name=tensor.name, tensor_key_mapping={}, parsed_parameters={}
        ).weights
    else:
        rows = tensor.shape[1]
        values = weights.read(tensor, expert * rows, (expert + 1) * rows)
    if values.size != parameter.numel():
        raise CalibrationError(
            f"tensor {tensor.name} has shape {tensor.shape}, and transformers expects {tuple(parameter.shape)}; give "
            "the Hugging Face folder in place of the GGUF"
        )
    parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(values)).reshape(parameter.shape))
