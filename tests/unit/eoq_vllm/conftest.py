"""The layers of vLLM that the plugin makes of codes: of a stand-in, and of vLLM itself where it is installed."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest

from tests.samples import vllm_stand_in


@dataclass
class Vllm:
    """What tests need of it."""

    linear: Any
    embeddings: Any
    be_rank: Callable[[int, int], None]
    """Has layers that are made from now on be of that device, of so many."""


def has_vllm() -> bool:
    return find_spec("vllm") is not None


@pytest.fixture(params=["stand-in", "vllm"])
def vllm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vllm]:
    for name in ("eoq_vllm.configuration", "eoq_vllm.methods"):  # which have bases of one or the other
        sys.modules.pop(name, None)
    if request.param == "stand-in":
        vllm_stand_in.install(monkeypatch)

        def be_rank(rank: int, size: int) -> None:
            monkeypatch.setattr(vllm_stand_in.Ranks, "rank", rank)
            monkeypatch.setattr(vllm_stand_in.Ranks, "size", size)

        yield Vllm(vllm_stand_in, vllm_stand_in, be_rank)
        return
    if not has_vllm():
        pytest.skip("vLLM is not installed")
    from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
    from vllm.model_executor import parameter
    from vllm.model_executor.layers import linear, vocab_parallel_embedding

    def be_real_rank(rank: int, size: int) -> None:
        for module in (linear, vocab_parallel_embedding, parameter):
            monkeypatch.setattr(module, "get_tensor_model_parallel_rank", lambda: rank)
            monkeypatch.setattr(module, "get_tensor_model_parallel_world_size", lambda: size)

    be_real_rank(0, 1)
    with set_current_vllm_config(VllmConfig(device_config=DeviceConfig(device="cpu"))):
        yield Vllm(linear, vocab_parallel_embedding, be_real_rank)
