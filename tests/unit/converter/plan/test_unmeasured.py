"""Types of weights that no token of the calibration reached."""

import pytest
from gguf import GGMLQuantizationType

from converter.options import TypeOptions
from converter.plan import resolve_plan
from converter.plan.unmeasured import with_bits_for_unmeasured
from eoq_formats.gguf_registration import register
from gguf_files.tensor_types import type_name
from gguf_files.tensors import TensorInfo

register()

F16 = GGMLQuantizationType.F16
SHAPES = {
    "token_embd.weight": (256, 64),
    "blk.0.attn_q.weight": (256, 256),
    "blk.0.ffn_up.weight": (192, 256),
    "blk.1.ffn_down.weight": (256, 32),
    "blk.1.attn_norm.weight": (256,),
    "output.weight": (256, 64),
}
TENSORS = [TensorInfo(name, shape, F16) for name, shape in SHAPES.items()]


def types(measured: set[str], *overrides: str, base: str = "eoq4") -> tuple[dict[str, str], str | None]:
    plan = resolve_plan(TENSORS, "llama", TypeOptions(base, tensor_types=overrides))
    raised, said = with_bits_for_unmeasured(plan, measured)
    assert [t.tensor for t in raised.tensors] == TENSORS
    return {t.tensor.name: type_name(t.type) for t in raised.tensors}, said


def test_nothing_changes_where_all_is_measured() -> None:
    found, said = types({name for name in SHAPES if name != "token_embd.weight"})
    assert said is None and found["blk.0.attn_q.weight"] == "eoq4" and found["token_embd.weight"] == "eoq4"


@pytest.mark.parametrize("base", ["eoq2", "eoq3t"])
def test_unmeasured_weights_get_five_bits_in_the_family_of_their_type(base: str) -> None:
    found, said = types({"blk.0.attn_q.weight", "output.weight"}, base=base)
    five = "eoq5t" if base.endswith("t") else "eoq5"
    assert found["blk.0.ffn_up.weight"] == f"{five}_64" and found["blk.1.ffn_down.weight"] == five
    assert found["blk.0.attn_q.weight"] == found["token_embd.weight"] == base
    assert said is not None and "2 tensors, such as blk.0.ffn_up.weight (57,344 weights)" in said


def test_more_bits_and_types_of_the_user_stay() -> None:
    found, said = types({"blk.0.attn_q.weight", "blk.0.ffn_up.weight"}, "ffn_down=eoq2")
    assert found["blk.1.ffn_down.weight"] == "eoq2" and found["output.weight"] == "eoq6"
    assert said is not None and "2 tensors" in said
    assert said.endswith("in no fewer than 5 bits, but where an option names the type")
