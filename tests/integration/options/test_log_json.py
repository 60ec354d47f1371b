"""`--log-json`: every line is a record as docs/log_json.md has it, in the order of work, and the output is the same."""

import ast
import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.options.conftest import Place
from tests.integration.options.test_evaluation import Evaluations, evaluations
from tests.integration.options.tools import ROOT, done, run
from tests.unit.evaluation.conftest import fake_bin, make_model, text

__all__ = ["evaluations", "fake_bin", "make_model", "text"]

PAGE = ROOT / "docs" / "log_json.md"
Record = dict[str, Any]


def rows(head: str) -> list[list[str]]:
    """Cells of a table of the page."""
    lines = PAGE.read_text().partition(f"| {head} |")[2].partition("\n\n")[0].splitlines()[2:]
    return [line.strip("| ").split(" | ") for line in lines]


FIELDS = {event.strip("`"): set(re.findall(r"`(\w+)`", fields)) for event, _, fields in rows("event")}
STAGES = [name for row in rows("stage") for name in re.findall(r"`([^`]+)`", row[0]) if name not in ("plan", "eval")]


def records(log: Path) -> list[Record]:
    return checked(log.read_text())


def checked(said: str) -> list[Record]:
    """The records of a log, which are as documented."""
    found = [json.loads(line) for line in said.splitlines()]
    for record in found:
        assert list(record)[:2] == ["time", "event"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", record["time"])
        assert set(record) - {"time", "event"} <= FIELDS[record["event"]], record
    assert [r["event"] for r in found if r["event"] in ("start", "end", "error")] == [
        found[0]["event"],
        found[-1]["event"],
    ]
    stage, amount = -1, 0
    for record in found:
        if record["event"] == "stage":
            assert stage <= STAGES.index(record["stage"])
            stage, amount = STAGES.index(record["stage"]), 0
        elif record["event"] == "progress":
            assert amount <= record["done"] <= record["total"] and (record["eta"] is None or record["eta"] >= 0)
            amount = record["done"]
        elif record["event"] == "file":
            stage = -1
    return found


def of(found: list[Record], event: str, field: str) -> list[Any]:
    return [record[field] for record in found if record["event"] == event]


def stage_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "stage":
            owner = ast.unparse(node.func.value)
            if owner.endswith(("progress", "_log")) and isinstance(node.args[0], ast.Constant):
                yield str(node.args[0].value)


def test_the_page_has_every_stage() -> None:
    files = [path for room in ("converter", "evaluation") for path in (ROOT / room).rglob("*.py")]
    files += [ROOT / "hf_export" / name for name in ("restore.py", "plain_folder.py", "numbered_rows.py")]
    assert {name for path in files for name in stage_calls(path)} == set(STAGES)


def convert(place: Place, name: str, *words: object) -> Path:
    target = place.folder / f"{name}.gguf"
    done("convert", place.inputs.model, target, "--threads", 1, *words)
    return target


def test_a_conversion(place: Place) -> None:
    """Its output has the same bytes as without, and what is said is the same."""
    log, words = place.folder / "log.jsonl", ("--stats", place.inputs.statistics, "--type", "eoq2")
    plain, logged = convert(place, "plain", *words), convert(place, "logged", *words, "--log-json", log)
    assert plain.read_bytes() == logged.read_bytes()
    found = records(log)
    assert of(found, "stage", "stage") == STAGES[STAGES.index("checking the statistics") :][:4]
    report = json.loads(logged.with_suffix(".report.json").read_text())
    tensors = [record for record in found if record["event"] == "tensor"]
    assert [(t["tensor"], t["type"]) for t in tensors] == [(t["name"], t["type"]) for t in report["tensors"]]
    assert [t["number"] for t in tensors] == list(range(1, 7)) and {t["count"] for t in tensors} == {6}
    assert tensors[-1]["done"] == tensors[-1]["total"]
    end = found[-1]
    assert Path(end["report"]) == logged.with_suffix(".report.json") and end["files"] == [str(logged)]
    assert (end["bytes"], end["weights"], end["event"]) == (logged.stat().st_size, report["weights"], "end")
    again = convert(place, "again", *words, "--quiet", "--log-json", log)
    assert records(log)[-1]["output"] == str(again), "the log of an earlier run is replaced"


def test_several_types(place: Place) -> None:
    log, folder = place.folder / "log.jsonl", place.folder / "types"
    words = ("--type", "eoq2,eoq4", "--stats", place.inputs.statistics, "--threads", 1, "--log-json", log)
    done("convert", place.inputs.model, folder, *words)
    found = records(log)
    assert of(found, "stage", "stage")[-6:].count("quantising") == 2
    written = of(found, "file", "output")
    assert [Path(path).suffix for path in written] == [".gguf"] * 2 and all(Path(path).exists() for path in written)
    end = found[-1]
    assert (end["output"], end["card"]) == (str(folder), str(folder / "README.md"))
    assert [(file["type"], file["files"]) for file in end["files"]] == [
        ("eoq2", [written[0]]),
        ("eoq4", [written[1]]),
    ]
    ended = run("convert", place.inputs.model, folder, "--type", "eoq2,eoq9", "--log-json", log)
    assert (ended.status, records(log)[-1]["event"]) == (1, "error")


def test_work_is_weights_by_what_their_type_costs(place: Place) -> None:
    totals = {}
    for type in ("eoq4", "eoq4t"):
        log = place.folder / f"{type}.jsonl"
        convert(place, type, "--stats", place.inputs.statistics, "--type", type, "--log-json", log)
        totals[type] = dict(zip(*(of(records(log), "stage", f) for f in ("stage", "total")), strict=True))["quantising"]
    assert totals["eoq4t"] > 2 * totals["eoq4"]


MOMENTS = """\
#!{python}
import shutil, sys, time
for number in {done}:
    print(f"sequence {{number}}/4, 0.10 s each, 0 s left", flush=True)
    time.sleep(0.05)
shutil.copy({ready!r}, sys.argv[sys.argv.index("-o") + 1])
"""


@pytest.mark.parametrize("sequences", [(1, 2, 3, 4), (3, 4)], ids=["new", "gone on with"])
def test_a_calibration_counts_tokens(place: Place, sequences: tuple[int, ...]) -> None:
    program, log = place.folder / "llama-moments", place.folder / "log.jsonl"
    ready = str(place.inputs.statistics)
    program.write_text(MOMENTS.format(python=sys.executable, done=sequences, ready=ready))
    program.chmod(0o755)
    words = ("--llama-bin", place.folder, "--calib", place.inputs.text, "--calib-length", 128, "--log-json", log)
    said = done("stats", "collect", place.inputs.model, place.folder / "s.stats", *words)
    found = records(log)
    assert "s.stats: 3 tensors" in said
    assert of(found, "stage", "stage") == ["loading the model for calibration", "calibrating"]
    assert of(found, "stage", "total") == [None, 4 * 128]
    assert of(found, "progress", "done")[0] == sequences[0] * 128 and of(found, "progress", "done")[-1] == 4 * 128
    assert of(found, "progress", "eta")[0] is None, "nothing is known of the pace yet"
    assert (found[-1]["files"], found[-1]["tokens"]) == ([str(place.folder / "s.stats")], [200])


def test_a_plan(place: Place) -> None:
    log, file = place.folder / "log.jsonl", place.folder / "plan.json"
    done("plan", place.inputs.model, "--planner", "ewq", "--json", file, "--log-json", log)
    found = records(log)
    assert of(found, "stage", "stage") == ["entropies"] and found[-1]["plan"] == str(file)
    assert done("plan", place.inputs.model, "--planner", "ewq") == done(
        "plan", place.inputs.model, "--planner", "ewq", "--log-json", log
    )
    assert records(log)[-1]["plan"] is None


def test_an_evaluation(evaluations: Evaluations) -> None:
    log = evaluations.folder / "log.jsonl"
    evaluations("--log-json", log, "--json", evaluations.folder / "e.json")
    found = records(log)
    assert of(found, "stage", "stage") == ["base", "model"]
    assert of(found, "stage", "model") == [str(evaluations.base), str(evaluations.model)]
    (model,) = json.loads((evaluations.folder / "e.json").read_text())["models"]
    assert of(found, "measured", "kld") == [model["kld"]]
    assert found[-1]["report"] == str(evaluations.folder / "e.json")


def test_an_evaluation_leaves_standard_error_to_the_records(evaluations: Evaluations) -> None:
    words = ("--llama-bin", evaluations.bin, "--base", evaluations.base, "--text", evaluations.text)
    ended = run("eval", evaluations.model, *words, "--log-json", "-")
    assert ended.status == 0 and checked(ended.err)[-1]["event"] == "end" and "| model" in ended.out


@pytest.mark.parametrize(
    "words",
    [("--type", "eoq9"), ("--imatrix", "none.gguf"), ("--stats", "{text}"), ("--calib-memory", "-1")],
    ids=lambda words: words[0],
)
def test_errors_are_records(place: Place, words: tuple[str, str]) -> None:
    log = place.folder / "log.jsonl"
    command = (
        "convert",
        place.inputs.model,
        place.folder / "m.gguf",
        words[0],
        words[1].format(text=place.inputs.text),
    )
    ended = run(*command, "--log-json", log)
    last = records(log)[-1]
    assert (last["event"], last["status"]) == ("error", 1)
    assert ended.err == f"error: {last['error']}\n"
    alone = run(*command, "--log-json", "-")
    assert alone.status == 1 and checked(alone.err)[-1]["error"] == last["error"]


def test_notes_are_records(place: Place) -> None:
    """Beside their line on standard error."""
    log, target = place.folder / "log.jsonl", place.folder / "m.gguf"
    words = ("convert", place.inputs.model, target, "--rtn", "--resume", "--quiet")
    ended = run(*words, "--log-json", log)
    (note,) = of(records(log), "note", "note")
    assert ended.err == f"note: {note}\n" and "there is no unfinished work" in note
    alone = run(*words, "--log-json", "-")
    assert of(checked(alone.err), "note", "note") == [note]
    assert not logging.getLogger("eoq").handlers
