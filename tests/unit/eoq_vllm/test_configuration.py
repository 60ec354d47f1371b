"""What vLLM asks of the configuration, and the entry point by which it finds the plugin."""

import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eoq_formats.types import weight_type
from eoq_transformers import FormatError
from eoq_transformers.description import describe
from eoq_vllm import operators
from tests.samples import vllm_stand_in
from tests.unit.eoq_vllm.conftest import Vllm
from tests.unit.eoq_vllm.test_layers import tensor_of

ROOT = Path(__file__).resolve().parents[3]
DESCRIBED = describe({"model.q_proj": weight_type("eoq4"), "model.o_proj": weight_type("eoq3t_64")})


@pytest.fixture
def config(vllm: Vllm) -> Any:
    from eoq_vllm.configuration import EoqConfig

    return EoqConfig.from_config(DESCRIBED)


def test_the_entry_point_names_the_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["vllm.general_plugins"]["eoq"].partition(":")
    sys.modules.pop("eoq_vllm.configuration", None)
    registered = vllm_stand_in.install(monkeypatch)
    for _ in range(2):
        getattr(import_module(module), name)()
    assert registered["eoq"] is import_module("eoq_vllm.configuration").EoqConfig
    sys.modules.pop("eoq_vllm.configuration", None)


def test_what_vllm_asks(config: Any) -> None:
    assert config.get_name() == "eoq" and config.get_min_capability() == 0 and not config.get_config_filenames()
    assert {torch.float16, torch.bfloat16} <= set(config.get_supported_act_dtypes())
    assert config.dequantize and dict(config.types)["model.o_proj"] == weight_type("eoq3t_64")


def test_overrides_choose_the_way_to_load(config: Any) -> None:
    config.maybe_update_config("model", hf_config=SimpleNamespace(), revision=None)
    assert config.dequantize
    config.maybe_update_config("model", hf_config=SimpleNamespace(eoq_dequantize=False))
    assert not config.dequantize
    with pytest.raises(FormatError, match=r"eoq_dequantize .* is 'no', and should be true or false"):
        config.maybe_update_config("model", hf_config=SimpleNamespace(eoq_dequantize="no"))
    with pytest.raises(FormatError, match=r"dequantize .* is 1, and should be"):
        type(config).from_config({**DESCRIBED, "dequantize": 1})
    with pytest.raises(FormatError, match="version"):
        type(config).from_config({**DESCRIBED, "version": 2})


def test_names_become_those_of_the_model(config: Any) -> None:
    def apply_dict(values: dict[str, Any]) -> dict[str, Any]:
        return {f"language_model.{name}": value for name, value in values.items()}

    config.apply_vllm_mapper(SimpleNamespace(apply_dict=apply_dict))
    assert set(config.types) == {"language_model.model.q_proj", "language_model.model.o_proj"}


def test_a_vllm_that_is_too_old(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    base = sys.modules["eoq_vllm.configuration"].QuantizeMethodBase
    monkeypatch.delattr(base, "tie_weights")
    with pytest.raises(FormatError, match="install a newer one"):
        type(config).from_config(DESCRIBED)


def test_operators_promise_what_they_give() -> None:
    """torch.compile asks for shapes and dtypes without data."""
    tensor = tensor_of("eoq4", 6, 128)
    packed, norms, scales = torch.from_numpy(tensor.packed), torch.from_numpy(tensor.norms), torch.ones(128).half()
    x, ids = torch.ones(2, 3, 128).bfloat16(), torch.tensor([[5, 0, 1]])
    for device in ("cpu", "meta"):
        codes = packed.to(device), norms.to(device), "EOQ4", scales.to(device)
        y = operators.multiply(x.to(device), *codes)
        assert (y.shape, y.dtype, y.device.type) == ((2, 3, 6), torch.bfloat16, device)
        rows = operators.look_up(ids.to(device), *codes, torch.bfloat16)
        assert (rows.shape, rows.dtype, rows.device.type) == ((1, 3, 128), torch.bfloat16, device)
