"""tools/plan_eoq.py and convert_eoq.py --plan and --dry-run, as a user runs them."""

import json
import re
import sys
from pathlib import Path

import gguf
import pytest
from gguf import GGUFWriter

from eoq_formats.gguf_registration import register
from tests.e2e.command import ROOT, run
from tests.integration.converter.command_line import assert_refused, run_calibrated, run_tool
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.samples.tiny_sources import write_folder_and_gguf

register()

LLAMA_8B = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32,
}  # fmt: skip

PLAN = (sys.executable, ROOT / "tools" / "plan_eoq.py")


def sizes(writer: GGUFWriter) -> None:
    writer.add_block_count(4)
    writer.add_context_length(512)
    writer.add_embedding_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Four blocks, the first with the widest weights."""
    tensors = {"token_embd.weight": random_weights(50, 40, 128)}
    for i, width in enumerate((0.4, 0.1, 0.3, 0.05)):
        for j, (kind, shape) in enumerate({"attn_q": (128, 128), "ffn_up": (256, 128)}.items()):
            weights = random_weights(10 * i + j, *shape, dtype=float) * (width / 0.05)
            tensors[f"blk.{i}.{kind}.weight"] = weights.astype("float16")
    return write_gguf(tmp_path / "model.gguf", tensors, sizes)


def types_of(path: Path) -> dict[str, str]:
    return {t.name: t.tensor_type.name.lower() for t in gguf.GGUFReader(path).tensors}


def test_an_ewq_plan_is_made_converted_and_kept(model: Path, tmp_path: Path) -> None:
    plan, picture, output = tmp_path / "plan.json", tmp_path / "plan.png", tmp_path / "out.gguf"
    said = run(*PLAN, model, "--planner", "ewq", "--json", plan, "--plot", picture, "--level", "raw=eoq6")
    assert "mean 4.60" in said and "memory: " in said
    content = json.loads(plan.read_text())
    blocks = content["blocks"]
    assert [block["name"] for block in blocks] == [f"blk.{i}" for i in range(4)]
    assert content["order"] == ["blk.0", "blk.2", "blk.1", "blk.3"]
    levels = {"4bit": "eoq4", "8bit": "q8_0", "raw": "eoq6"}
    assert blocks[0]["decision"] == "4bit" and blocks[3]["decision"] == "raw"
    for block in blocks:
        total = sum(m["weights"] * m["entropy"] for m in block["matrices"].values())
        assert block["entropy"] == pytest.approx(total / block["weights"], rel=1e-14)
    assert picture.read_bytes().startswith(b"\x89PNG")

    dry = run_tool(model, output, "--plan", plan, "--dry-run")
    assert dry.returncode == 0 and not output.exists()
    assert "blk.0.attn_q.weight" in dry.stdout and "entropy 4." in dry.stdout
    # 2 heads of 32 for keys and for values, 4 blocks, 2 bytes
    assert f"{512 * 2 * 32 * 2 * 4 * 2 / 1e6:.1f} of which are the F16 cache of 512 tokens" in dry.stdout

    done = run_tool(model, output, "--plan", plan)
    assert done.returncode == 0, done.stderr
    found = types_of(output)
    for block in blocks:
        assert {found[name] for name in block["matrices"]} == {levels[block["decision"]]}
    assert found["token_embd.weight"] == "eoq6"  # tied: the output's type
    options = gguf.GGUFReader(output).fields["eoq.options"].contents()
    assert any(text.startswith("plan=ewq, ") for text in options)
    planned = float(dry.stdout.split("file: ")[1].split(" MB")[0].replace(",", ""))
    assert planned == pytest.approx(output.stat().st_size / 1e6, abs=0.1)


def test_presets(model: Path, tmp_path: Path) -> None:
    assert "progressive: the first third" in run(*PLAN, model, "--planner", "preset", "--preset", "list")
    plan = tmp_path / "plan.json"
    run(*PLAN, model, "--planner", "preset", "--preset", "progressive", "--type", "eoq3", "--json", plan, "--table")
    done = run_tool(model, tmp_path / "out.gguf", "--plan", plan)
    assert done.returncode == 0, done.stderr
    found = types_of(tmp_path / "out.gguf")
    assert [found[f"blk.{i}.ffn_up.weight"] for i in range(4)] == ["eoq4", "eoq3", "eoq3", "eoq2"]


def test_a_budget_is_kept(tmp_path: Path, llama_source: Path) -> None:
    _, gguf_file = write_folder_and_gguf("llama", tmp_path, llama_source)
    plan, output = tmp_path / "plan.json", tmp_path / "out.gguf"
    size = gguf_file.stat().st_size // 5
    said = run(*PLAN, gguf_file, "--target-size", str(size), "--json", plan, "--tensor-type", "attn_k=q8_0")
    assert "ffn_down.weight" in said
    done = run_tool(gguf_file, output, "--plan", plan)
    assert done.returncode == 0, done.stderr
    largest = max(t.n_bytes for t in gguf.GGUFReader(output).tensors)
    assert size - largest < output.stat().st_size <= size
    found = types_of(output)
    assert len(set(found.values())) > 2
    assert {found[name] for name in found if "attn_k.weight" in name} == {"q8_0"}
    smaller = str(gguf_file.stat().st_size // 7)
    trellis = run(*PLAN, gguf_file, "--target-size", smaller, "--codes", "trellis", "--table")
    assert re.search(r"eoq[2-5]t", trellis) and not re.search(r"eoq[2-5](_| )", trellis)
    said = run(*PLAN, gguf_file, "--planner", "budget", "--target-bpw", "1", expect_failure=True)
    ways_out = re.findall(r"--target-bpw [\d.]+", said)
    assert len(ways_out) == 2
    for way_out in ways_out:
        run(*PLAN, gguf_file, *way_out.split())


def test_a_hugging_face_folder(tmp_path: Path, llama_source: Path) -> None:
    folder, _ = write_folder_and_gguf("llama", tmp_path, llama_source)
    plan = tmp_path / "plan.json"
    run(*PLAN, folder, "--planner", "ewq", "--json", plan, "--llama-dir", llama_source)
    assert len(json.loads(plan.read_text())["blocks"]) == 2
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_nothing_of_a_model_folder_is_written_over(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(LLAMA_8B))
    for model in (tmp_path, config):
        for output in (("--json", config), ("--plot", config)):
            said = run(*PLAN, model, "--planner", "fastewq", *output, expect_failure=True)
            assert said == f"error: the output {config} would write over {config}, which is read; give another name\n"
    assert json.loads(config.read_text()) == LLAMA_8B


def test_a_cluster_lowers_precision_until_it_fits(model: Path, tmp_path: Path) -> None:
    plan, output = tmp_path / "plan.json", tmp_path / "out.gguf"
    machines = ("--machine", "localhost=2MB,disk=170kB", "--machine", "10.0.0.7=1GB,disk=160kB")
    said = run(*PLAN, model, "--planner", "ewq", "--context", "64", "--json", plan, *machines)
    cluster = json.loads(plan.read_text())["cluster"]
    # blocks by ascending entropy: 0, 2, 1, 3
    assert cluster["levels"][3] != cluster["levels"][0] and "of highest entropy could be raised" in cluster["how"]
    first, second = cluster["machines"]
    assert first["parts"] == "embeddings" and first["memory"] <= 2_000_000 and first["disk"] <= 170_000
    assert second["parts"] == "blk.0-3, output" and 140_000 < second["disk"] <= 160_000
    assert f"{first['memory'] / 1e6:,.1f}" in said and cluster["how"] in said
    for command in (
        f"eoq convert {model} model-cluster.gguf --plan {plan}",
        "rpc-server -H 10.0.0.7 -p 50052 -c",
        "llama-cli -m model-cluster.gguf -c 64 -ngl 5 --rpc 10.0.0.7:50052 --device RPC0 --tensor-split 5",
    ):
        assert f"\n  {command}" in said
    done = run_tool(model, output, "--plan", plan)
    assert done.returncode == 0, done.stderr
    found = types_of(output)
    types = {"raw": "f16", "8bit": "q8_0", "4bit": "eoq4", "2bit": "eoq2"}
    assert [found[f"blk.{i}.ffn_up.weight"] for i in range(4)] == [types[level] for level in cluster["levels"]]
    assert output.stat().st_size == pytest.approx(first["disk"], abs=2000)


def test_one_machine_needs_no_server(model: Path) -> None:
    said = run(*PLAN, model, "--planner", "preset", "--machine", "localhost=1GB", "--machine", "nas=1GB")
    assert said.endswith("\n  llama-cli -m model-cluster.gguf -c 4096\n") and "rpc-server" not in said
    said = run(*PLAN, model, "--planner", "fastewq", "--machine", "localhost=1GB")
    assert "all blocks at raw fit" in said


def test_errors_are_one_sentence(model: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--planner", "ewq", "--variant", "2bit"), "no EWQ variant '2bit'"),
        (("--planner", "ewq", "--level", "5bit=eoq5"), "LEVEL=TYPE"),
        (("--planner", "preset", "--preset", "best"), "no preset 'best'"),
        (("--planner", "ewq", "--json", tmp_path / "none" / "plan.json"), "does not exist"),
        (("--planner", "ewq", "--json", model), "give another name"),
        ((), "(--fit-memory); give one of them"),
        (("--planner", "ewq", "--machine", "nas"), "write a machine like"),
        (("--planner", "ewq", "--machine", "nas=1MB"), "the embeddings take"),
        (("--planner", "ewq", "--machine", "nas=1GB,disk=1kB"), "which reads it, has 0.0 MB of disk"),
        (("--planner", "preset", "--context", "64", "--machine", "nas=3MB"), "as it is planned: it takes"),
        (("--planner", "ewq", "--context", "64", "--machine", "nas=3MB"), "even with all blocks at 2bit: it takes"),
    ):
        said = run(*PLAN, model, *arguments, expect_failure=True)
        *before, error = said.splitlines()
        assert error.startswith("error: ") and message in error and before in ([], ["entropies …"])
    for arguments, message in (
        (("--planner", "ewq", "--target-bpw", "4"), "--target-bpw is not for --planner ewq but for budget"),
        (("--variant", "8bit", "--target-bpw", "4"), "--variant is not for --planner budget but for ewq and fastewq"),
    ):
        said = run(*PLAN, model, *arguments, expect_failure=True)
        assert said.startswith("usage: ") and message in said.splitlines()[-1]
    before = sorted(path.name for path in tmp_path.iterdir())
    assert_refused(run_tool(model, tmp_path / "out.gguf", "--plan", model), "is not UTF-8")
    # the report, which comes with a conversion, is an output too
    plan = tmp_path / "out.report.json"
    plan.write_text("{}")
    for option in ("--plan", "--calib"):
        message = f"the output {plan} would write over {plan}, which is read"
        assert_refused(run_calibrated(model, tmp_path / "out.gguf", option, plan), message)
    assert plan.read_text() == "{}"
    plan.unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == before
