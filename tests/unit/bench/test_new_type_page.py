"""The page for a new type: which files it compares, its tables, and what it says where nothing was timed."""

from pathlib import Path
from typing import Any

import pytest

from bench.inference.llama_bench import LlamaBench, Speed
from bench.new_type_page import Setting, page, race, speed_table, type_table, variants, write_page
from bench.quality.texts import TEXTS
from tests.unit.evaluation.conftest import MakeModel, fake_bin, make_model, text

__all__ = ["fake_bin", "make_model", "text"]


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_files_as_the_converter_makes_them_by_itself() -> None:
    found = [(v.type, v.method) for v in variants(["EOQ2T", "EOQ4T", "EOQ4"], ["IQ4_XS"])]
    assert found == [("EOQ2T", "both"), ("EOQ4T", "feedback"), ("EOQ4", "feedback"), ("IQ4_XS", None)]


def test_speeds_take_turns_and_are_compared() -> None:
    seen: list[str] = []

    class Bench(LlamaBench):
        def run(self, model: Path, threads: Any) -> dict[int, Speed]:
            seen.append(model.name)
            speed = 200.0 if model.name == "a" else 100.0
            return {2: Speed(speed, speed / 10 + len(seen))}

    files = {"EOQ4T": Path("a"), "IQ4_XS": Path("b")}
    speeds = race(files, Bench(Path("llama-bench")), 2, 2)
    assert seen == ["a", "b", "b", "a"]
    table = cells(speed_table(speeds, ["IQ4_XS"]))
    assert table[0] == ["type", "pp512 t/s", "tg128 t/s", "pp over IQ4_XS", "tg over IQ4_XS"]
    assert table[2] == ["EOQ4T", "200.0 (200.0..200.0)", "22.50 (21.00..24.00)", "2.000", f"{22.5 / 12.5:.3f}"]


def test_types_that_a_file_really_has(make_model: MakeModel) -> None:
    table = cells(type_table({"EOQ4": make_model("m.gguf", "EOQ4")}))
    assert table[2][0] == "EOQ4" and "eoq4" in table[2][2]


@pytest.mark.parametrize("rounds", [0, 1])
def test_the_page(
    rounds: int,
    make_model: MakeModel,
    text: Path,
    fake_bin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(TEXTS, "news", lambda: text)
    monkeypatch.setattr(LlamaBench, "run", lambda self, model, threads: {count: Speed(1, 2) for count in threads})
    chosen = Setting(["IQ4_XS"], "news", None, rounds, 1, "python -m bench.new_type_page --types EOQ4")
    base, out = make_model("base.gguf"), tmp_path / "page.md"
    files = {"EOQ4": make_model("e.gguf", "EOQ4"), "IQ4_XS": make_model("i.gguf")}
    write_page(chosen, base, files, fake_bin, out)
    written = out.read_text()
    assert f"    {chosen.command}\n" in written and "| e.gguf " in written and "mean KLD" in written
    assert ("pp over IQ4_XS" in written) == bool(rounds)
    assert ("Not measured here" in written) == (not rounds)
    assert all(len(line) <= 120 or line.startswith("|") or line.startswith("    ") for line in written.splitlines())


def test_every_link_of_the_page_leads_somewhere() -> None:
    written = page("x", "m", "t", "q", None)
    assert {f"#{name}" for name in ("perplexity-and-kl-divergence", "speed")} == {
        part.partition(")")[0] for part in written.split("](")[1:] if part.startswith("#")
    }
    assert "## Perplexity and KL divergence\n" in written and "## Speed\n" in written
