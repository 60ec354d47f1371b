"""The speed comparison: order of the runs, what llama-bench prints, and the arithmetic of the tables. No times."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.alternation import alternating
from bench.inference import speed as inference_speed
from bench.inference.files import ModelFile
from bench.inference.llama_bench import LlamaBench, Speed, parse
from bench.inference.read_bandwidth import ReadBandwidth
from bench.inference.speed import Race, as_json, known_type, report, thread_counts
from bench.inference.tables import Measured, aims, outcomes, speeds
from bench.spread import Spread
from llama_programs.errors import ProgramFailed


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def measured(prompt: Sequence[float], generation: Sequence[float], size: int = 1_000_000) -> Measured:
    return Measured(0.5, size, Spread.of(prompt), Spread.of(generation))


RESULTS = {
    "EOQ4": measured([100, 110, 120], [21, 24, 20], size=500_000_000),
    "Q4_K": measured([200, 100, 100], [20, 19, 21]),
    "IQ4_XS": measured([50, 50, 50], [28, 28, 28]),
    "F16": measured([150, 160, 170], [5, 5, 5]),
}


def test_alternating() -> None:
    order = [(1, "A"), (1, "B"), (1, "C"), (2, "C"), (2, "B"), (2, "A"), (3, "A"), (3, "B"), (3, "C")]
    assert list(alternating("ABC", 3)) == order


def test_spread() -> None:
    spread = Spread.of([3.0, 1.0, 2.0, 10.0])
    assert (spread.median, spread.low, spread.high) == (2.5, 1, 10)
    assert spread.text(1) == "2.5 (1.0..10.0)"
    assert Spread.of([2.0]).text(2) == "2.00"
    assert Spread.of([3.0, 4.0]).over(Spread.of([1.0, 8.0])).values == (3.0, 0.5)


def test_speeds() -> None:
    head, _, *rows = cells(speeds(RESULTS, Spread.of([20.0, 30.0, 25.0]), ["Q4_K", "Q5_K"], (512, 128)))
    # a baseline that was not measured has no columns
    sizes = ["type", "bytes a weight", "pp512 t/s", "tg128 t/s", "GB/s read", "of bandwidth"]
    assert head == [*sizes, "pp512 over Q4_K", "tg128 over Q4_K"]
    # 500 MB a token and 21 tokens a second, of 25 GB/s
    speed = ["110.0 (100.0..120.0)", "21.00 (20.00..24.00)"]
    assert rows[0] == ["EOQ4", "0.5000", *speed, "10.50", "42%", "1.100", "1.050"]
    assert [row[0] for row in rows] == list(RESULTS)


def test_outcomes() -> None:
    found = {(o.aim.test, o.aim.ours, o.peer): o for o in outcomes(RESULTS)}
    # prompts: against whichever of llama.cpp's types is the fastest by its median, F16 here
    assert set(found) == {("tg", "EOQ4", "Q4_K"), ("tg", "EOQ4", "IQ4_XS"), ("pp", "EOQ4", "F16")}
    generation = found["tg", "EOQ4", "Q4_K"]
    assert generation.ratio == 21 / 20 and generation.is_met
    assert generation.by_round.values == (21 / 20, 24 / 19, 20 / 21)
    assert not found["tg", "EOQ4", "IQ4_XS"].is_met
    assert found["pp", "EOQ4", "F16"].ratio == 110 / 160


def test_aims() -> None:
    table = aims(RESULTS, (512, 128))
    assert table is not None
    rows = cells(table)[2:]
    assert rows[0] == ["tg128 of EOQ4", "Q4_K", "1.050", "0.952..1.263", "1.05", "yes"]
    assert rows[2][:2] == ["pp512 of EOQ4", "F16 (the fastest)"] and rows[2][-1] == "no"
    assert aims({"EOQ4": RESULTS["EOQ4"]}, (512, 128)) is None


def bench_json(*tests: tuple[int, int, int, float]) -> str:
    """llama-bench's output for tests of (threads, prompt, generated, tokens a second), as far as it is read."""
    names = ("n_threads", "n_prompt", "n_gen", "avg_ts")
    return json.dumps([{"model_type": "llama ?B EOQ4"} | dict(zip(names, test, strict=True)) for test in tests])


def test_parse() -> None:
    output = bench_json((1, 512, 0, 90.5), (1, 0, 128, 11.0), (2, 512, 0, 170.0), (2, 0, 128, 16.0))
    assert parse(output, (2, 1)) == {1: Speed(90.5, 11.0), 2: Speed(170.0, 16.0)}


@pytest.mark.parametrize("output", ["", "null", "[1]", "{}", bench_json((1, 512, 0, 90.5)), '[{"n_gen": 1}]'])
def test_what_llama_bench_left_out_is_an_error(output: str) -> None:
    with pytest.raises(ProgramFailed, match="llama-bench"):
        parse(output, (1,))


def test_command() -> None:
    command = LlamaBench(Path("bin/llama-bench"), 64, 16).command(Path("m.gguf"), (1, 2))
    text = " ".join(command)
    assert text.startswith("bin/llama-bench -m m.gguf") and text.endswith("-o json")
    assert "-t 1,2" in text and "-p 64 -n 16 -r 1" in text


class FakeBench(LlamaBench):
    def run(self, model: Path, threads: Sequence[int]) -> dict[int, Speed]:
        with self.program.open("a") as log:
            log.write(model.name)
        return {count: Speed(100.0 * count, 10.0 * count) for count in threads}


class FakeBandwidth(ReadBandwidth):
    def measure(self, threads: int) -> float:
        with self.program.open("a") as log:
            log.write(f"b{threads}")
        return 20.0 * threads


def test_race(tmp_path: Path) -> None:
    log = tmp_path / "log"
    files = [ModelFile("EOQ4", Path("A"), 0.5156, 10**8), ModelFile("Q4_K", Path("B"), 0.5625, 10**9)]
    race = Race((1, 2))
    race.run(files, 3, FakeBench(log), FakeBandwidth(log))
    assert log.read_text() == "b1b2ABb1b2BAb1b2AB"
    assert race.bandwidth == {1: [20.0] * 3, 2: [40.0] * 3}
    results = race.results(files, 2)
    assert list(results) == ["EOQ4", "Q4_K"] and results["Q4_K"].generation.values == (20.0, 20.0, 20.0)
    text = report(race, files, ["Q4_K"], (512, 128))
    assert "## 1 thread, read bandwidth 20.0" in text and "## 2 threads, read bandwidth 40.0" in text
    first: dict[str, Any] = json.loads(json.dumps(as_json(race, files)))[0]
    assert first["types"]["EOQ4"]["bytes_per_second"] == 10**8 * 10.0
    assert [aim["is_met"] for aim in first["aims"]] == [False, True]  # tg needs 1.05; pp, the fastest's speed


def test_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert thread_counts("1,2,1") == (1, 2)
    assert known_type("iq4_xs") == "IQ4_XS"
    for wrong in (["--threads", "0"], ["--threads", "a"], ["--types", "EOQ9"], ["--rounds", "0"]):
        monkeypatch.setattr(sys, "argv", ["inference_speed", *wrong])
        with pytest.raises(SystemExit) as ended:
            inference_speed.main()
        assert ended.value.code == 2
    monkeypatch.setattr(sys, "argv", ["inference_speed", "--hidden", "2000"])
    assert inference_speed.main() == 1
    assert "error: the hidden size must be a multiple of 256, not 2000" in capsys.readouterr().err
