"""Plans as files, presets, and what becomes of both in a plan."""

import json
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as T
from hypothesis import given
from hypothesis import strategies as st

from converter import ConversionOptions, RoundingOptions, TypeOptions, convert
from converter.errors import OptionError
from converter.plan import Plan, Proposal, Proposals, Rule, as_plan_file, read_plan_file, resolve_plan
from converter.plan.planners.presets import PRESETS, propose_preset, step_from
from converter.plan.precision_levels import LADDERS
from converter.type_choice import parse_type
from eoq_formats.types import weight_type
from gguf_files.tensor_types import type_name
from gguf_files.tensors import TensorInfo
from tests.samples.gguf_samples import tiny_model, write_gguf

NAMES = [
    "token_embd.weight",
    *(f"blk.{i}.{kind}.weight" for i in range(9) for kind in ("attn_q", "attn_output", "ffn_up", "ffn_down")),
    "output.weight",
]
MODEL = [TensorInfo(name, (256, 64), T.BF16) for name in [*NAMES, "blk.0.attn_norm.weight"]]


def plan_with(proposals: Proposals, asked: TypeOptions | None = None) -> Plan:
    return resolve_plan(MODEL, "llama", asked or TypeOptions(), proposals)


def types(proposals: Proposals, asked: TypeOptions | None = None) -> dict[str, str]:
    plan = plan_with(proposals, asked)
    return {t.tensor.name: type_name(t.type) for t in plan.tensors}


def proposal(name: str | None, why: str = "so") -> Proposal:
    return Proposal(parse_type(name) if name else None, why)


kinds = st.sampled_from([None, *LADDERS["scalar"], *LADDERS["trellis"], "eoq4_64", "bf16"]).map(proposal)


@given(
    st.dictionaries(st.sampled_from(NAMES), kinds, min_size=1),
    st.lists(st.builds(Rule, st.sampled_from(["ffn_", r"blk\.[0-3]\.", "^output"]), kinds), max_size=3),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, tensors: dict[str, Proposal], rules: list[Rule]
) -> None:
    path = tmp_path_factory.mktemp("plan") / "plan.json"
    written = Proposals("ewq", tensors, rules)
    path.write_text(json.dumps(as_plan_file(written, {"mean": 4.6})))
    read = read_plan_file(path)
    assert read == written and read.digest == written.digest
    assert types(read) == types(written)


def test_toml_and_short_forms(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(
        """
        format = "eoq-plan"
        version = 1
        [[rules]]
        match = "ffn_down"
        type = "eoq6"
        [[rules]]
        match = "ffn_"
        type = "EOQ5"
        why = "as I like it"
        [tensors]
        "blk.1.ffn_up.weight" = "raw"
        "blk.2.ffn_up.weight" = { type = "q8_0" }
        """
    )
    proposals = read_plan_file(tmp_path / "plan.toml")
    found = types(proposals)
    assert found["blk.0.ffn_down.weight"] == "eoq6"
    assert found["blk.0.ffn_up.weight"] == "eoq5"
    assert found["blk.1.ffn_up.weight"] == "bf16"
    assert found["blk.2.ffn_up.weight"] == "q8_0"
    assert found["blk.0.attn_q.weight"] == "eoq4" and found["output.weight"] == "eoq6"
    by_rule = proposals(MODEL[NAMES.index("blk.0.ffn_up.weight")])
    assert by_rule is not None and by_rule.why == "as I like it"


def test_what_the_command_line_names_goes_first() -> None:
    proposals = Proposals("file", {name: proposal("eoq2") for name in NAMES})
    found = types(proposals, TypeOptions("eoq4", "q8_0", "f16", ("blk.3.=eoq5",)))
    assert found["blk.3.attn_q.weight"] == "eoq5" and found["blk.4.attn_q.weight"] == "eoq2"
    assert found["output.weight"] == "q8_0" and found["token_embd.weight"] == "f16"
    assert found["blk.0.attn_norm.weight"] == "bf16"


def test_rows_that_a_type_does_not_fit() -> None:
    odd = [TensorInfo("blk.0.ffn_up.weight", (96, 8), T.F16), TensorInfo("blk.0.ffn_down.weight", (192, 8), T.F16)]
    proposals = Proposals("file", rules=[Rule("ffn", proposal("eoq3"))])
    up, down = resolve_plan(odd, "llama", TypeOptions(), proposals).tensors
    assert (type_name(up.type), up.fallback) == ("q8_0", True) and "rows of 96" in up.why
    assert (type_name(down.type), down.fallback) == ("eoq3_64", False)


def test_the_file_is_named_after_the_type_of_most_weights() -> None:
    few = Proposals("file", rules=[Rule("attn_q", proposal("eoq3"))])
    many = Proposals("file", rules=[Rule("attn|ffn_up", proposal("eoq3"))])
    assert plan_with(few, TypeOptions("eoq4")).file_type == weight_type("eoq4")
    assert plan_with(many, TypeOptions("eoq4")).file_type == weight_type("eoq3")


def test_the_options_of_a_file_tell_plans_apart(tmp_path: Path) -> None:
    one, two = (Proposals("file", rules=[Rule("ffn", proposal(name))]) for name in ("eoq3", "eoq5"))
    again = Proposals("file", rules=[Rule("ffn", proposal("eoq3", "another reason"))])
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    options = ConversionOptions(rounding=RoundingOptions("nearest", awq=False))
    recorded = [convert(source, tmp_path / "m.gguf", options, proposals=p).options for p in (one, two, again)]
    assert recorded[0] == recorded[2] != recorded[1]
    assert any(text == f"plan=file, {one.digest}" for text in recorded[0])


def test_plans_for_another_model() -> None:
    with pytest.raises(OptionError, match=r"tensor blk\.77\.ffn_up\.weight, which the model does not have"):
        types(Proposals("file", {"blk.77.ffn_up.weight": proposal("eoq4")}))
    with pytest.raises(OptionError, match=r"rule 'ssm_in' matches no tensor"):
        types(Proposals("file", rules=[Rule("ssm_in", proposal("eoq4"))]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ("[]", 'its "format" is not "eoq-plan"'),
        ('{"format": "eoq-plan", "version": 2}', "its version is 2"),
        ('{"format": "eoq-plan", "version": 1}', "names no tensors and no rules"),
        ('{"format": "eoq-plan", "version": 1, "rules": {}}', '"rules" a list'),
        ('{"format": "eoq-plan", "version": 1, "rules": [{"type": "eoq4"}]}', 'rule 1 has no "match"'),
        ('{"format": "eoq-plan", "version": 1, "rules": [{"match": "(", "type": "eoq4"}]}', "not a regular expression"),
        ('{"format": "eoq-plan", "version": 1, "rules": [{"match": "a"}]}', 'rule 1 has no "type"'),
        ('{"format": "eoq-plan", "version": 1, "tensors": {"a": 4}}', 'tensor a has no "type"'),
        ('{"format": "eoq-plan", "version": 1, "tensors": {"a": "eoq7"}}', "tensor a: unknown tensor type 'eoq7'"),
    ],
)
def test_damaged_plans(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(OptionError, match=r"plan\.json") as caught:
        read_plan_file(path)
    assert message in str(caught.value)


def test_plans_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read: No such file"):
        read_plan_file(tmp_path / "none.json")
    (tmp_path / "plan.toml").write_bytes(b"\xff")
    with pytest.raises(OptionError, match="not UTF-8"):
        read_plan_file(tmp_path / "plan.toml")
    (tmp_path / "plan.toml").write_text("a = [")
    with pytest.raises(OptionError, match="not TOML"):
        read_plan_file(tmp_path / "plan.toml")


def preset(name: str, base: str = "eoq4") -> dict[str, str]:
    return types(propose_preset(name, base, MODEL, "llama"))


def test_presets() -> None:
    assert {preset("uniform", "eoq3")[name] for name in NAMES[1:-1]} == {"eoq3"}
    attention = preset("attention")
    assert attention["blk.5.attn_q.weight"] == "eoq5" and attention["blk.5.ffn_up.weight"] == "eoq4"
    down = preset("down")
    assert [down[f"blk.5.{k}.weight"] for k in ("attn_q", "attn_output", "ffn_up", "ffn_down")] == [
        "eoq4",
        "eoq5",
        "eoq4",
        "eoq5",
    ]
    depth = [preset("progressive")[f"blk.{i}.ffn_up.weight"] for i in range(9)]
    assert depth == ["eoq5"] * 3 + ["eoq4"] * 3 + ["eoq3"] * 3
    ends = [preset("ends", "eoq6")[f"blk.{i}.ffn_up.weight"] for i in range(9)]
    assert ends == ["q8_0"] + ["eoq6"] * 7 + ["q8_0"]
    embeddings = preset("embeddings", "eoq4")
    assert embeddings["token_embd.weight"] == embeddings["output.weight"] == "eoq6"
    assert preset("feed-forward", "eoq4_64")["blk.0.ffn_up.weight"] == "eoq5_64"


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_presets_of_small_models(name: str, blocks: int) -> None:
    small = [t for t in MODEL if not t.name.startswith("blk.") or int(t.name.split(".")[1]) < blocks]
    resolve_plan(small, "llama", TypeOptions(), propose_preset(name, "eoq3", small, "llama"))


def test_steps_end_at_the_ends() -> None:
    assert [step_from("eoq2", n) for n in (-1, 0, 1, 9)] == ["eoq2", "eoq2", "eoq3", "f16"]
    assert step_from("eoq6_64", 1) == "q8_0"
    assert [step_from("eoq4t_128", n) for n in (-9, -1, 1, 2)] == ["eoq2t_128", "eoq3t_128", "eoq5t_128", "eoq6_128"]
    with pytest.raises(OptionError, match="start from an EOQ type"):
        step_from("q4_0", 1)


def test_presets_that_do_not_exist() -> None:
    with pytest.raises(OptionError, match="no preset 'best'"):
        preset("best")
    with pytest.raises(OptionError, match="no blocks"):
        propose_preset("uniform", "eoq4", MODEL[:1], "llama")
