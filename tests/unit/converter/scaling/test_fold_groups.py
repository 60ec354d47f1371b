"""Fold groups: what each architecture's tensors allow, and what is refused with which reason."""

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType

from converter.scaling.fold_groups import FoldGroup, FoldTable, fold_groups
from gguf_files.header import MetadataEntry, pack_entry
from gguf_files.tensors import TensorInfo

WIDTH, INNER, HEADS, KV_HEADS, HEAD = 192, 256, 6, 2, 32


def tensor(name: str, *shape: int) -> TensorInfo:
    """A tensor in ggml's order of dimensions, row length first."""
    return TensorInfo(name, shape, GGMLQuantizationType.F32)


def block(*more: TensorInfo, without: tuple[str, ...] = ()) -> list[TensorInfo]:
    """The tensors of block 0 of a llama, and others."""
    shapes = {
        "attn_norm.weight": (WIDTH,),
        "attn_q.weight": (WIDTH, HEADS * HEAD),
        "attn_k.weight": (WIDTH, KV_HEADS * HEAD),
        "attn_v.weight": (WIDTH, KV_HEADS * HEAD),
        "attn_output.weight": (HEADS * HEAD, WIDTH),
        "ffn_norm.weight": (WIDTH,),
        "ffn_gate.weight": (WIDTH, INNER),
        "ffn_up.weight": (WIDTH, INNER),
        "ffn_down.weight": (INNER, WIDTH),
    }
    return [tensor(f"blk.0.{name}", *shape) for name, shape in shapes.items() if name not in without] + list(more)


def metadata(architecture: str = "llama", heads: int = HEADS, kv_heads: int | None = KV_HEADS) -> list[MetadataEntry]:
    entries = [pack_entry(f"{architecture}.attention.head_count", GGUFValueType.UINT32, heads)]
    if kv_heads is not None:
        entries.append(pack_entry(f"{architecture}.attention.head_count_kv", GGUFValueType.UINT32, kv_heads))
    return entries


def short(table: FoldTable) -> dict[str, tuple[list[tuple[str, int]], list[str]]]:
    """Producers with the first of their rows, and consumers, by kind."""

    def name(t: TensorInfo) -> str:
        return t.name.removeprefix("blk.0.").removesuffix(".weight")

    return {
        g.kind: ([(name(p.tensor), p.first) for p in g.producers], [name(t) for t in g.consumers]) for g in table.groups
    }


def reasons(table: FoldTable) -> dict[str, str]:
    return {refusal.what: refusal.reason for refusal in table.refusals}


def test_groups_of_a_dense_block() -> None:
    biases = [tensor(f"blk.0.{name}.bias", n) for name, n in [("attn_v", 64), ("attn_q", 192), ("ffn_up", INNER)]]
    table = fold_groups("llama", block(*biases), metadata())
    assert short(table) == {
        "attn_norm": ([("attn_norm", 0)], ["attn_q", "attn_k", "attn_v"]),
        "attn_v": ([("attn_v", 0), ("attn_v.bias", 0)], ["attn_output"]),
        "ffn_norm": ([("ffn_norm", 0)], ["ffn_gate", "ffn_up"]),
        "ffn_up": ([("ffn_up", 0), ("ffn_up.bias", 0)], ["ffn_down"]),
    }
    values = table.groups[1]
    assert (values.channels, values.sources, values.heads, values.kv_heads) == (192, 64, HEADS, KV_HEADS)
    assert [p.is_vector for p in values.producers] == [False, True]


def test_fused_tensors_give_channels_with_their_last_rows() -> None:
    fused = [
        tensor("blk.0.attn_norm.weight", WIDTH),
        tensor("blk.0.attn_qkv.weight", WIDTH, (HEADS + 2 * KV_HEADS) * HEAD),
        tensor("blk.0.attn_output.weight", HEADS * HEAD, WIDTH),
        tensor("blk.0.ffn_norm.weight", WIDTH),
        tensor("blk.0.ffn_up.weight", WIDTH, 2 * INNER),
        tensor("blk.0.ffn_down.weight", INNER, WIDTH),
    ]
    assert short(fold_groups("phi3", fused, metadata("phi3"))) == {
        "attn_norm": ([("attn_norm", 0)], ["attn_qkv"]),
        "attn_v": ([("attn_qkv", (HEADS + KV_HEADS) * HEAD)], ["attn_output"]),
        "ffn_norm": ([("ffn_norm", 0)], ["ffn_up"]),
        "ffn_up": ([("ffn_up", INNER)], ["ffn_down"]),
    }


def test_experts_share_the_norm_and_have_scales_of_their_own_before_down() -> None:
    dense = ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight")
    experts = [
        tensor("blk.0.ffn_gate_inp.weight", WIDTH, 4),
        tensor("blk.0.ffn_gate_exps.weight", WIDTH, 128, 4),
        tensor("blk.0.ffn_up_exps.weight", WIDTH, 128, 4),
        tensor("blk.0.ffn_down_exps.weight", 128, WIDTH, 4),
        tensor("blk.0.ffn_gate_inp_shexp.weight", WIDTH),
        tensor("blk.0.ffn_gate_shexp.weight", WIDTH, INNER),
        tensor("blk.0.ffn_up_shexp.weight", WIDTH, INNER),
        tensor("blk.0.ffn_down_shexp.weight", INNER, WIDTH),
    ]
    table = fold_groups("qwen2moe", block(*experts, without=dense), metadata("qwen2moe"))
    found = short(table)
    routed = ["ffn_gate_inp", "ffn_gate_exps", "ffn_up_exps"]
    assert found["ffn_norm"] == ([("ffn_norm", 0)], [*routed, "ffn_gate_shexp", "ffn_up_shexp", "ffn_gate_inp_shexp"])
    assert found["ffn_up_exps"] == ([("ffn_up_exps", 0)], ["ffn_down_exps"])
    assert found["ffn_up_shexp"] == ([("ffn_up_shexp", 0)], ["ffn_down_shexp"])
    by_kind = {g.kind: g for g in table.groups}
    assert (by_kind["ffn_up_exps"].experts, by_kind["ffn_norm"].experts) == (4, 1)


@pytest.mark.parametrize(("heads", "kv_heads"), [(6, 2), (6, 6), (4, 1)])
def test_neighbouring_heads_share_the_scales_of_their_values(heads: int, kv_heads: int) -> None:
    group = FoldGroup("attn_v", (), (), channels=heads * 8, heads=heads, kv_heads=kv_heads)
    expected = [j // 8 // (heads // kv_heads) * 8 + j % 8 for j in range(heads * 8)]
    assert group.source_of_channel.tolist() == expected
    assert group.sources == kv_heads * 8 == max(expected) + 1


def test_an_unknown_architecture_has_no_folds() -> None:
    table = fold_groups("mamba", block(), metadata("mamba"))
    assert table.groups == () and "no fold table" in reasons(table)["the model"]


def test_a_block_with_an_unknown_tensor_is_left_alone() -> None:
    other = [TensorInfo(t.name.replace("blk.0", "blk.1"), t.shape, t.type) for t in block()]
    table = fold_groups("llama", [*block(tensor("blk.0.attn_gate.weight", WIDTH, WIDTH)), *other], metadata())
    assert "does not know its attn_gate.weight" in reasons(table)["blk.0"]
    assert len(table.groups) == 4 and all(g.name.startswith("blk.1.") for g in table.groups)


def test_without_a_gate_up_is_not_folded() -> None:
    table = fold_groups("llama", block(without=("ffn_gate.weight",)), metadata())
    assert "nonlinearity" in reasons(table)["blk.0.ffn_up"]
    assert {g.kind for g in table.groups} == {"attn_norm", "attn_v", "ffn_norm"}


def test_heads_that_are_not_known_or_do_not_fit() -> None:
    for wrong in ([], metadata(heads=5), metadata(heads=7, kv_heads=7)):
        table = fold_groups("llama", block(), wrong)
        assert {g.kind for g in table.groups} == {"attn_norm", "ffn_norm", "ffn_up"}
        assert "blk.0.attn_v" in reasons(table)
    # as many key as query heads where the metadata has no number for them, but 64 rows of values are not 6 heads
    assert "64 channels" in reasons(fold_groups("llama", block(), metadata(kv_heads=None)))["blk.0.attn_v"]


def test_lengths_that_do_not_fit_together() -> None:
    odd = [tensor("blk.0.ffn_gate.weight", 128, INNER)]
    table = fold_groups("llama", block(*odd, without=("ffn_gate.weight",)), metadata())
    assert "differ in length" in reasons(table)["blk.0.ffn_norm"]


def test_bert_folds_values_alone() -> None:
    names = ("attn_norm.weight", "ffn_norm.weight", "ffn_gate.weight")
    norms = [tensor(f"blk.0.{n}_output_norm.{part}", WIDTH) for n in ("attn", "layer") for part in ("weight", "bias")]
    table = fold_groups("bert", block(*norms, without=names), metadata("bert"))
    assert [g.kind for g in table.groups] == ["attn_v"]
    assert {"ffn_up", "attn_output_norm, layer_output_norm, token_embd_norm"} <= reasons(table).keys()


def test_tensors_that_stay_take_their_groups_with_them() -> None:
    table = fold_groups("llama", block(), metadata(), fixed={"blk.0.attn_v.weight"})
    assert {g.kind for g in table.groups} == {"ffn_norm", "ffn_up"}
    assert "keeps the bytes" in reasons(table)["blk.0.attn_norm.weight"]


def test_the_output_norm_is_folded_on_demand_and_only_into_an_output_of_its_own() -> None:
    outside = [tensor("token_embd.weight", WIDTH, 300), tensor("output_norm.weight", WIDTH)]
    output = tensor("output.weight", WIDTH, 300)
    assert "token embedding" in reasons(fold_groups("llama", outside, [], head=True))["output_norm"]
    assert "return" in reasons(fold_groups("llama", [*outside, output], []))["output_norm"]
    table = fold_groups("llama", [*outside, output], [], head=True)
    assert [(g.kind, g.name, g.consumers) for g in table.groups] == [("output_norm", "output_norm.weight", (output,))]
    ranked = [*outside, output, tensor("cls.output.weight", WIDTH, 2)]
    assert "cls.output.weight" in reasons(fold_groups("llama", ranked, [], head=True))["output_norm"]


def test_source_of_channel_is_the_identity_without_heads() -> None:
    group = FoldGroup("ffn_up", (), (), channels=5)
    assert np.array_equal(group.source_of_channel, np.arange(5)) and group.sources == 5
