"""Passes over the text, as many as memory asks for."""

import pytest
from gguf import GGMLQuantizationType
from torch import nn

from converter.calibrate.inputs import ModelInput
from converter.calibrate.modules import MatchedModule
from converter.calibrate.passes import split_into_passes
from converter.statistics.moments_file import InputLayout
from gguf_files.tensors import TensorInfo


def model_input(key: str, n: int, experts: int = 1) -> ModelInput:
    tensor = TensorInfo(f"{key}.weight", (n, 4, experts), GGMLQuantizationType.F32)
    probes = tuple(MatchedModule(f"{key}.{i}", nn.Identity(), tensor, i) for i in range(experts))
    return ModelInput(InputLayout(key, n, experts, False, (tensor.name,)), probes)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (10**9, [["q.0", "down.0", "down.1", "down.2"]]),
        (400 * 2 + 100 * 4, [["q.0", "down.0", "down.1"], ["down.2"]]),
        (1, [["q.0"], ["down.0"], ["down.1"], ["down.2"]]),
    ],
)
def test_a_pass_holds_what_fits(limit: int, expected: list[list[str]]) -> None:
    passes = split_into_passes([model_input("q", 5), model_input("down", 10, experts=3)], limit)
    assert [[probe.module.name for probe in p] for p in passes] == expected


def test_a_layer_without_inputs_has_one_pass() -> None:
    assert split_into_passes([], 10) == [[]]
