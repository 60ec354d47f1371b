"""The interface of vLLM, read from its source without importing it, where it is installed or on PYTHONPATH."""

import ast
import inspect
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.samples import vllm_stand_in
from tests.unit.eoq_vllm.conftest import has_vllm

pytestmark = pytest.mark.skipif(not has_vllm(), reason="vLLM is not installed")

LAYERS = "model_executor/layers"


@cache
def classes(file: str) -> dict[str, ast.ClassDef]:
    spec = find_spec("vllm")
    assert spec is not None and spec.origin is not None
    tree = ast.parse((Path(spec.origin).parent / file).read_text(encoding="utf-8"))
    return {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}


def arguments(file: str, owner: str, method: str) -> list[str]:
    """Names of the arguments of a method, of the nearest base in the file that has it."""
    cls = classes(file)[owner]
    for node in cls.body:
        if isinstance(node, ast.FunctionDef) and node.name == method:
            given = node.args
            return [arg.arg for arg in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    for base in cls.bases:
        if isinstance(base, ast.Name) and base.id in classes(file):
            return arguments(file, base.id, method)
    raise AssertionError(f"{file} has no {owner}.{method}")


def own_arguments(function: Any) -> list[str]:
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]


@pytest.mark.parametrize(
    ("file", "name", "method"),
    [
        ("linear.py", "MergedColumnParallelLinear", "weight_loader"),
        ("linear.py", "QKVParallelLinear", "weight_loader"),
        ("linear.py", "RowParallelLinear", "weight_loader"),
        ("linear.py", "UnquantizedLinearMethod", "create_weights"),
        ("linear.py", "UnquantizedLinearMethod", "apply"),
        ("vocab_parallel_embedding.py", "VocabParallelEmbedding", "weight_loader"),
        ("vocab_parallel_embedding.py", "ParallelLMHead", "tie_weights"),
        ("vocab_parallel_embedding.py", "UnquantizedEmbeddingMethod", "embedding"),
        ("quantization/base_config.py", "QuantizeMethodBase", "tie_weights"),
        ("quantization/base_config.py", "QuantizeMethodBase", "process_weights_after_loading"),
    ],
)
def test_the_stand_in_has_vllms_arguments(file: str, name: str, method: str) -> None:
    ours = own_arguments(getattr(getattr(vllm_stand_in, name), method))
    assert arguments(f"{LAYERS}/{file}", name, method) == ours


@pytest.mark.parametrize("name", ["MergedColumnParallelLinear", "QKVParallelLinear", "RowParallelLinear"])
def test_layers_are_made_with_vllms_arguments(name: str) -> None:
    ours = own_arguments(getattr(vllm_stand_in, name).__init__)
    assert set(ours) <= set(arguments(f"{LAYERS}/linear.py", name, "__init__"))


def test_methods_have_the_arguments_that_vllm_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    vllm_stand_in.install(monkeypatch)
    from eoq_vllm.configuration import EoqConfig
    from eoq_vllm.methods import EoqMethod

    base = f"{LAYERS}/quantization/base_config.py"
    for method in ("from_config", "get_quant_method", "apply_vllm_mapper", "maybe_update_config"):
        ours = own_arguments(inspect.unwrap(getattr(EoqConfig, method)))
        theirs = [name for name in arguments(base, "QuantizationConfig", method) if name != "cls"]
        assert [name for name in ours if name != "cls"] == theirs
    abstract = [
        node.name
        for node in classes(base)["QuantizationConfig"].body
        if isinstance(node, ast.FunctionDef) and any("abstractmethod" in ast.unparse(d) for d in node.decorator_list)
    ]
    assert abstract and set(abstract) <= set(vars(EoqConfig))
    for method in ("create_weights", "apply"):
        assert own_arguments(getattr(EoqMethod, method)) == arguments(f"{LAYERS}/linear.py", "LinearMethodBase", method)
