"""Planners are compared at equal sizes, and what is measured is kept by plan."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf import GGUFWriter

from bench.quality import planners, texts
from bench.quality.ablation_tables import Result
from bench.quality.ablation_variants import KEPT
from bench.quality.planners import PLANS, Bench, Pair, budget_name, make_pairs, table
from converter.ingest.open_model import open_model
from converter.options import SourceAccess, TypeOptions
from converter.plan import resolve_plan
from converter.plan.memory import PlannedFile
from converter.plan.planners import BudgetRequest
from converter.plan.planners.losses import TensorLoss
from gguf_files.source import Source
from gguf_files.tensors import TensorInfo
from terminal.progress import Progress
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.unit.bench.quality.test_ablation import cells


def sizes(writer: GGUFWriter) -> None:
    writer.add_block_count(4)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Four blocks of different widths, embeddings and output."""
    tensors = {name: random_weights(1, 40, 256) for name in ("token_embd.weight", "output.weight")}
    for i in range(4):
        for j, kind in enumerate(("attn_q", "ffn_up", "ffn_down")):
            weights = random_weights(10 * i + j, 256, 256, dtype=float) * (1 + i)
            tensors[f"blk.{i}.{kind}.weight"] = weights.astype("float16")
    return write_gguf(tmp_path / "model.gguf", tensors, sizes)


@pytest.fixture
def pairs(model: Path, monkeypatch: pytest.MonkeyPatch) -> list[Pair]:
    def losses(
        source: Source,
        request: BudgetRequest,
        tensors: Sequence[TensorInfo],
        threads: int,
        progress: Progress,
    ) -> dict[str, TensorLoss]:
        return {t.name: TensorLoss(feedback=1 + i, nearest=1 + i) for i, t in enumerate(tensors)}

    monkeypatch.setattr(planners, "predicted_losses", losses)
    return make_pairs(model, Path("model.stats"), threads=1)


def test_the_budget_planner_stays_within_the_size_of_each_plan(model: Path, pairs: list[Pair]) -> None:
    assert [pair.name for pair in pairs] == list(PLANS)
    types = TypeOptions(tensor_types=(KEPT,))
    with open_model(model, Path("plan.json"), SourceAccess(), 1, Progress()) as source:
        for pair in pairs:
            plans = [resolve_plan(source.tensors, source.architecture, types, p) for p in (pair.plan, pair.budget)]
            files = [PlannedFile.of(plan, source).file_bytes for plan in plans]
            assert files[1] <= files[0] == pair.bytes
            for plan in plans:
                kept = {t.tensor.name: t.type for t in plan.tensors if not t.tensor.name.startswith("blk.")}
                assert set(kept.values()) == {source.tensors[0].type}


def result(megabytes: float, kld: float) -> dict[str, Result]:
    return {text: Result(int(megabytes * 1e6), 4.1, kld * factor, 0.001, 1.01, 0.9) for text, factor in TEXTS.items()}


TEXTS = {"news": 1.0, "code": 2.0}


def test_table_by_size_with_ratios() -> None:
    results = {"EWQ 8bit": result(900, 0.02), budget_name("EWQ 8bit"): result(899, 0.01)}
    results |= {"EOQ4 throughout": result(700, 0.04), budget_name("EOQ4 throughout"): result(700, 0.05)}
    rows = cells(table(results))[2:]
    assert [row[0] for row in rows] == [
        "EOQ4 throughout",
        "budget, as EOQ4 throughout",
        "EWQ 8bit",
        "budget, as EWQ 8bit",
    ]
    assert rows[2] == [
        *("EWQ 8bit", "900.0", "4.100"),
        *("0.02000 ± 0.00100", "1.0100", "2.000"),
        *("0.04000 ± 0.00100", "1.0100", "2.000"),
    ]
    assert rows[1][5] == "1.250"


def test_results_are_kept_by_plan(
    model: Path, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str]) -> tuple[float, int]:
        commands.append(command)
        Path(command[3]).write_bytes(b"model")
        return 1.0, 1

    one = {
        "bytes": 5,
        "block_bits_per_weight": 4.0,
        "kld": {"value": 0.1, "error": 0.01},
        "perplexity_ratio": {"value": 1.1, "error": 0.01},
        "same_top": {"value": 0.9, "error": 0.01},
    }
    monkeypatch.setattr(planners, "timed_run", run)
    monkeypatch.setattr(texts, "evaluate", lambda *arguments: None)
    monkeypatch.setattr(texts, "as_json", lambda evaluation: {"models": [one]})
    monkeypatch.setattr(planners, "built_programs", lambda cache: tmp_path)
    monkeypatch.setattr(planners, "DEFAULT_TEXTS", {"news": lambda: tmp_path / "news.txt"})
    (tmp_path / "model.stats").write_bytes(b"statistics")
    bench = Bench(model, tmp_path / "model.stats", tmp_path / "work", 8, threads=1)
    found = bench.measure(pairs[0].plan)
    assert found["news"].kld == 0.1 and bench.measure(pairs[0].plan) == found and len(commands) == 1
    words = list(map(str, commands[0]))
    assert words[words.index("--stats") + 1].endswith("model.stats") and "--plan" in words
    plan = json.loads((tmp_path / "work" / "plan.json").read_text())
    assert plan["tensors"] or plan["rules"]
    assert not list((tmp_path / "work").glob("*.gguf"))
