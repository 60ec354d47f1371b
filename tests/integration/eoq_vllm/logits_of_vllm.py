"""Logits of a folder by vLLM's configuration, model and loader, on a CPU: a program, for vLLM keeps what it sets up.

    python tests/integration/eoq_vllm/logits_of_vllm.py FOLDER {floats|codes} TOKENS.pt LOGITS.pt

vLLM's attention needs kernels that are compiled for a device, and its cache of keys; PyTorch's takes its place.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from vllm.config import set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.engine.arg_utils import EngineArgs
from vllm.forward_context import set_forward_context
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.model_loader import get_model

import eoq_vllm


def attend(self: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    tokens = len(query)
    q, k, v = (x.reshape(tokens, -1, self.head_size).transpose(0, 1)[None] for x in (query, key, value))
    y = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, is_causal=True, enable_gqa=True, scale=self.impl.scale
    )
    return y[0].transpose(0, 1).reshape(tokens, -1)


@torch.no_grad()
def main(folder: str, way: str, tokens: str, output: Path) -> None:
    eoq_vllm.register()
    options = EngineArgs(
        model=folder,
        dtype="float32",
        enforce_eager=True,
        max_model_len=64,
        hf_overrides={"eoq_dequantize": way == "floats"},
        compilation_config={"custom_ops": ["none"]},
    )
    config = options.create_engine_config()
    with set_current_vllm_config(config):
        init_distributed_environment(1, 0, f"file://{output}.rendezvous", 0, "gloo")
        initialize_model_parallel(1)
        model = get_model(vllm_config=config)
        Attention.forward = attend
        ids = torch.load(tokens)
        with set_forward_context(None, config):
            logits = model.compute_logits(model(ids, torch.arange(len(ids))))
    has_codes = any(name.rpartition(".")[2].startswith("packed") for name, _ in model.named_parameters())
    assert has_codes == (way == "codes")
    torch.save(logits, output)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
