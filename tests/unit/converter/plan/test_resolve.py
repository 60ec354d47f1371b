"""Which type each tensor gets, and why."""

from collections.abc import Mapping

import pytest
from gguf import GGMLQuantizationType as T

from converter.errors import OptionError
from converter.options import TypeOptions
from converter.plan import Plan, resolve_plan
from converter.plan.plan import check_readable
from gguf_files.errors import QuantizedSourceError, SourceError
from gguf_files.tensor_types import type_name
from gguf_files.tensors import TensorInfo

BLOCK = {"blk.0.attn_q.weight": (128, 128), "token_embd.weight": (128, 1000), "output.weight": (128, 1000)}


def infos(shapes: Mapping[str, tuple[int, ...]], kind: T = T.F16) -> list[TensorInfo]:
    return [TensorInfo(name, shape, kind) for name, shape in shapes.items()]


def make_plan(
    shapes: Mapping[str, tuple[int, ...]], asked: TypeOptions | None = None, architecture: str = "llama"
) -> Plan:
    return resolve_plan(infos(shapes), architecture, asked or TypeOptions())


def types(plan: Plan) -> dict[str, str]:
    return {t.tensor.name: type_name(t.type) for t in plan.tensors}


@pytest.mark.parametrize(
    ("row", "asked", "got"),
    [
        (4096, "eoq4", "eoq4"),
        (128, "EOQ3", "eoq3"),
        (576, "eoq4", "eoq4_64"),
        (64, "eoq2", "eoq2_64"),
        (4096, "eoq4_64", "eoq4_64"),
        (576, "EOQ5_64", "eoq5_64"),
        (96, "eoq4", "q8_0"),
        (32, "eoq4_64", "q8_0"),
        (100, "eoq4", "f16"),
        (8, "eoq6", "f16"),
    ],
)
def test_the_row_length_decides(row: int, asked: str, got: str) -> None:
    (tensor,) = make_plan({"blk.0.ffn_up.weight": (row, 8)}, TypeOptions(asked)).tensors
    assert type_name(tensor.type) == got
    assert tensor.fallback == (not got.startswith("eoq"))
    assert not tensor.fallback or f"rows of {row}" in tensor.why


def test_bfloat16_falls_back_to_itself() -> None:
    """F16 ends at 65504."""
    tensors = [TensorInfo(f"blk.{i}.ffn_up.weight", (row, 8), T.BF16) for i, row in enumerate((100, 96))]
    odd, even = resolve_plan(tensors, "llama", TypeOptions()).tensors
    assert (odd.type, even.type) == (T.BF16, T.Q8_0) and odd.is_copy and odd.fallback and even.fallback


def test_a_fallback_of_the_source_s_own_type_is_a_copy() -> None:
    (tensor,) = make_plan({"blk.0.ffn_up.weight": (100, 8)}).tensors
    assert tensor.is_copy


def test_output_is_finer_and_embeddings_are_not() -> None:
    assert types(make_plan(BLOCK)) == {
        "blk.0.attn_q.weight": "eoq4",
        "token_embd.weight": "eoq4",
        "output.weight": "eoq6",
    }


def test_tied_embeddings_are_the_output() -> None:
    tied = {name: shape for name, shape in BLOCK.items() if name != "output.weight"}
    assert types(make_plan(tied))["token_embd.weight"] == "eoq6"
    assert types(make_plan(tied, TypeOptions(output_type="q8_0")))["token_embd.weight"] == "q8_0"
    both = TypeOptions(output_type="q8_0", token_embd_type="eoq5")
    assert types(make_plan(tied, both))["token_embd.weight"] == "eoq5"


def test_the_default_output_is_as_wide_as_the_rest() -> None:
    assert types(make_plan(BLOCK, TypeOptions("eoq4_64")))["output.weight"] == "eoq6_64"


def test_options_for_output_and_embeddings() -> None:
    shapes = BLOCK | {"per_layer_token_embd.weight": (128, 1000)}
    got = types(make_plan(shapes, TypeOptions(output_type="F16", token_embd_type="EOQ3")))
    assert got["output.weight"] == "f16" and got["token_embd.weight"] == got["per_layer_token_embd.weight"] == "eoq3"


def test_expert_matrices_are_quantised_and_routers_are_not() -> None:
    got = types(make_plan({"blk.0.ffn_up_exps.weight": (128, 64, 4), "blk.0.ffn_gate_inp.weight": (128, 4)}))
    assert got == {"blk.0.ffn_up_exps.weight": "eoq4", "blk.0.ffn_gate_inp.weight": "f16"}


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        ("blk.0.attn_norm.weight", (128,), "one-dimensional"),
        ("blk.0.attn_q_norm.weight", (128, 8), "norm"),
        ("blk.0.ffn_gate_inp_shexp.weight", (128, 1), "one-dimensional"),
        ("blk.0.ffn_up_exps.bias", (128, 4), "no weight matrix"),
        ("blk.0.ffn_up_exps.scale", (128, 4), "no weight matrix"),
        ("position_embd.weight", (128, 512), "position"),
        ("token_types.weight", (128, 2), "segment"),
        ("blk.0.ssm_conv1d.weight", (4, 128), "convolution"),
        ("blk.0.shortconv.conv.weight", (4, 128), "convolution"),
        ("blk.0.ssm_alpha.weight", (128, 32), "state"),
        ("blk.0.ssm_beta.weight", (128, 32), "state"),
        ("blk.0.ssm_ba.weight", (128, 64), "state"),
        ("blk.0.ssm_dt.weight", (64, 256), "state"),
        ("blk.0.ssm_f_a.weight", (128, 64), "state"),
        ("blk.0.ssm_g_b.weight", (64, 128), "state"),
        ("blk.0.time_mix_w1.weight", (128, 64), "RWKV"),
        ("blk.0.time_mix_decay_w2.weight", (128, 64), "RWKV"),
        ("blk.0.attn_rel_b.weight", (128, 32), "relative"),
        ("blk.0.laurel_l.weight", (128, 64), "Laurel"),
        ("v.patch_embd.weight", (128, 14, 3, 64), "patches"),
        ("v.position_embd.weight", (128, 576), "positions"),
        ("rope_freqs.weight", (64,), "one-dimensional"),
        ("blk.0.empty.weight", (128, 0), "empty"),
    ],
)
def test_what_stays_as_it_is(name: str, shape: tuple[int, ...], reason: str) -> None:
    kept, weight = make_plan({name: shape, "blk.0.time_mix_key.weight": (128, 128)}).tensors
    assert kept.is_copy and reason in kept.why
    assert type_name(weight.type) == "eoq4"


def test_tables_of_integers_stay() -> None:
    table = TensorInfo("blk.0.table.weight", (128, 4), T.I32)
    (kept,) = resolve_plan([table], "llama", TypeOptions()).tensors
    assert kept.is_copy


def test_some_tensors_stay_in_one_architecture_only() -> None:
    shapes = {"blk.0.attn_k_b.weight": (128, 128)}
    assert types(make_plan(shapes, architecture="deepseek2")) == {"blk.0.attn_k_b.weight": "eoq4"}
    assert types(make_plan(shapes, architecture="glm5-next")) == {"blk.0.attn_k_b.weight": "f16"}


def test_the_first_override_that_matches_wins_over_everything() -> None:
    shapes = BLOCK | {"blk.1.attn_q.weight": (128, 128), "blk.1.ffn_down.weight": (192, 128)}
    overrides = (r"blk\.0\.=eoq2", "attn_q|output=q8_0", "ffn_down=eoq5")
    assert types(make_plan(shapes, TypeOptions(tensor_types=overrides, output_type="f16"))) == {
        "blk.0.attn_q.weight": "eoq2",
        "token_embd.weight": "eoq4",
        "output.weight": "q8_0",
        "blk.1.attn_q.weight": "q8_0",
        "blk.1.ffn_down.weight": "eoq5_64",
    }


def test_an_override_leaves_kept_tensors_alone() -> None:
    shapes = {"blk.0.attn_norm.weight": (128,), "blk.0.ffn_up.weight": (128, 8)}
    assert types(make_plan(shapes, TypeOptions(tensor_types=("blk=q8_0",)))) == {
        "blk.0.attn_norm.weight": "f16",
        "blk.0.ffn_up.weight": "q8_0",
    }


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (TypeOptions(tensor_types=("atn_q=eoq5",)), "atn_q=eoq5 matches no tensor"),
        (TypeOptions(tensor_types=("attn_norm=q8_0",)), "stay as they are: blk.0.attn_norm.weight"),
        (TypeOptions(tensor_types=("attn_q=eoq5_64",)), "blk.0.attn_q.weight has rows of 96 .* 64, .* eoq5_64"),
        (TypeOptions(tensor_types=("attn_q=eoq5",)), "blk.0.attn_q.weight has rows of 96 .* 64 or 128"),
        (TypeOptions(output_type="eoq4"), "output.weight has rows of 96"),
    ],
)
def test_overrides_that_cannot_be_had(asked: TypeOptions, message: str) -> None:
    shapes = {"blk.0.attn_q.weight": (96, 128), "blk.0.attn_norm.weight": (96,), "output.weight": (96, 10)}
    with pytest.raises(OptionError, match=message):
        make_plan(shapes, asked)


def test_sizes() -> None:
    plan = make_plan({"blk.0.ffn_up.weight": (256, 10), "blk.0.attn_norm.weight": (256,)})
    assert plan.nbytes == 10 * 2 * 66 + 512
    assert plan.weights == 2816 and plan.bits_per_weight == pytest.approx(8 * 1832 / 2816)
    assert [t.name for t in plan.eoq_types] == ["EOQ4"]


@pytest.mark.parametrize("source", [T.Q4_1, T(164)], ids=lambda t: t.name)
def test_a_quantised_source_needs_permission(source: T) -> None:
    tensors = infos({"blk.0.ffn_up.weight": (128, 8)}, source)
    plan = resolve_plan(tensors, "llama", TypeOptions())
    with pytest.raises(QuantizedSourceError, match=r"blk.0.ffn_up.weight .*allow-requantize"):
        check_readable(plan, allow_requantize=False)
    check_readable(plan, allow_requantize=True)


def test_a_quantised_tensor_that_is_asked_to_stay_needs_none() -> None:
    tensors = infos({"blk.0.ffn_up.weight": (128, 8)}, T.MXFP4)
    plan = resolve_plan(tensors, "llama", TypeOptions(tensor_types=("ffn_up=mxfp4",)))
    check_readable(plan, allow_requantize=False)


def test_a_source_type_that_cannot_be_read() -> None:
    unreadable = [t for t in T if t.name in ("Q8_K", "Q8_1")]
    for kind in unreadable:
        plan = resolve_plan(infos({"blk.0.ffn_up.weight": (256, 8)}, kind), "llama", TypeOptions())
        with pytest.raises(SourceError, match=f"blk.0.ffn_up.weight has type {type_name(kind)}"):
            check_readable(plan, allow_requantize=True)
    assert unreadable
