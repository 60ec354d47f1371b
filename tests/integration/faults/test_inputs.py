"""What is named as an input is never written to, whatever tool and whatever output: refused before any work."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.converter.command_line import TOOL, assert_refused
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.samples.moments_samples import model, write_statistics
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.unit.gguf_files.test_source import write_splits

TOOLS = TOOL.parent
FOLDER, BASE = Path("hf"), Path("m-00001-of-00003.gguf")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One of everything that a tool reads."""
    folder = tmp_path_factory.mktemp("inputs")
    write_splits(folder)
    write_gguf(folder / "model.gguf", tiny_model())
    write_tiny_llama(folder / FOLDER)
    source = model(folder)
    for number in (1, 2):
        write_statistics(folder / f"{number}.stats", source, number)
    (folder / "plan.json").write_text('{"tensors": []}')
    (folder / "text.txt").write_text("word " * 4000)
    (folder / "kept.json").write_text("mine")
    (folder / "questions").mkdir()
    (folder / "questions" / "a_test.csv").write_text("q,1,2,3,4,A\n")
    (folder / "blocks.csv").write_text("mine")
    return folder


CALIBRATED = ("convert_eoq.py", "model.gguf")
EVAL = ("eval_eoq.py", "model.gguf", "--base", str(BASE), "--text", "text.txt")
PLAN = ("plan_eoq.py", "model.gguf", "--target-bpw", "4.5", "--stats", "1.stats")
FASTEWQ = ("plan_eoq.py", "hf/config.json", "--planner", "fastewq")
COLLECT = ("stats_eoq.py", "collect", "model.gguf")
CASES: list[tuple[tuple[str, ...], str]] = [
    ((*CALIBRATED, "{}", "--rtn"), "model.gguf"),
    (("convert_eoq.py", str(BASE), "{}", "--rtn"), "m-00002-of-00003.gguf"),
    (("convert_eoq.py", str(FOLDER), "{}", "--rtn"), "hf/tokenizer.model"),
    ((*CALIBRATED, "{}", "--rtn", "--plan", "plan.json"), "plan.json"),
    ((*CALIBRATED, "{}", "--stats", "1.stats"), "1.stats"),
    ((*CALIBRATED, "{}", "--imatrix", "1.stats"), "1.stats"),
    ((*CALIBRATED, "{}", "--calib", "text.txt"), "text.txt"),
    ((*PLAN, "--json", "{}"), "model.gguf"),
    ((*PLAN, "--json", "{}"), "1.stats"),
    ((*PLAN, "--plot", "{}"), "1.stats"),
    (("plan_eoq.py", str(FOLDER), "--planner", "ewq", "--json", "{}"), "hf/config.json"),
    (
        ("plan_eoq.py", "hf/config.json", "--planner", "fastewq", "--dataset", "blocks.csv", "--json", "{}"),
        "blocks.csv",
    ),
    (("plan_eoq.py", "hf/config.json", "--planner", "fastewq", "--json", "{}"), "hf/config.json"),
    (("plan_eoq.py", str(BASE), "--planner", "preset", "--json", "{}"), "m-00003-of-00003.gguf"),
    (("stats_eoq.py", "merge", "1.stats", "2.stats", "{}"), "2.stats"),
    (("stats_eoq.py", "mix", "1.stats:2", "2.stats", "{}"), "1.stats"),
    ((*COLLECT, "{}"), "model.gguf"),
    ((*COLLECT, "{}", "--calib", "text.txt"), "text.txt"),
    (("stats_eoq.py", "collect", str(FOLDER), "{}"), "hf/model.safetensors"),
    *(
        ((*EVAL, option, "{}"), read)
        for option in ("--json", "--plot", "--base-logits")
        for read in ("model.gguf", str(BASE), "m-00002-of-00003.gguf", "text.txt")
    ),
    ((*EVAL, "--base-logits", "kept", "--json", "{}"), "kept.json"),
    (("eval_mmlu.py", "questions", "--json", "{}"), "questions/a_test.csv"),
    (("eval_mmlu.py", "questions/a_test.csv", "--dev", "questions", "--json", "{}"), "questions/a_test.csv"),
    (("build_fastewq_dataset.py", "{}", str(FOLDER)), "hf/config.json"),
]
WAYS: dict[str, Callable[[Path, Path], object]] = {
    "itself": lambda link, read: None,
    "a hard link": lambda link, read: link.hardlink_to(read),
    "a link": lambda link, read: link.symlink_to(read),
}


@pytest.mark.parametrize("way", WAYS)
def test_inputs_named_as_outputs(way: str, inputs: Path, tmp_path: Path) -> None:
    """All tools in one process, as each start takes a second."""
    place = tmp_path / "inputs"
    shutil.copytree(inputs, place)
    script = [f"import os, runpy, sys\nsys.path.insert(0, {str(TOOLS.parent)!r})\nos.chdir({str(place)!r})"]
    for number, (words, read) in enumerate(CASES):
        link = tmp_path / f"link-{number}"
        WAYS[way](link, place / read)
        command = [word.format(link if link.exists() else read) for word in words]
        tool = str(TOOLS / words[0])
        script += [f"sys.argv = {command!r}", "try:", f"    runpy.run_path({tool!r}, run_name='__main__')"]
        script += ["except SystemExit as end:", "    print(end.code)", "print(file=sys.stderr, flush=True)"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in place.rglob("*") if path.is_file()}
    done = subprocess.run([sys.executable, "-c", "\n".join(script)], capture_output=True, text=True)
    said = done.stderr.removesuffix("\n\n").split("\n\n")
    assert done.stdout == "1\n" * len(CASES) and len(said) == len(CASES), done.stderr
    for (words, read), line in zip(CASES, said, strict=True):
        assert line.startswith("error: the output ") and "\n" not in line, (words, line)
        assert f"would write over {read}, which is read; give" in line.replace(f"{place}/", ""), (words, read, line)
    after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in place.rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize(
    "words",
    [
        (*EVAL, "--json", "{}", "--plot", "{}"),
        (*PLAN, "--json", "{}", "--plot", "{}"),
        (*CALIBRATED, "{}", "--stats", "{}"),
        (*EVAL, "--base-logits", "kept", "--json", "{}"),
    ],
    ids=" ".join,
)
def test_two_outputs_in_one_file(words: tuple[str, ...], inputs: Path, tmp_path: Path) -> None:
    target = inputs / "kept.json" if "--base-logits" in words else tmp_path / "out"
    before = inputs.joinpath("kept.json").read_bytes()
    command = [sys.executable, str(TOOLS / words[0]), *(word.format(target) for word in words[1:])]
    done = subprocess.run(command, cwd=inputs, capture_output=True, text=True)
    assert_refused(done, f"{target}")
    assert not list(tmp_path.iterdir()) and inputs.joinpath("kept.json").read_bytes() == before


@pytest.mark.parametrize(
    "words",
    [
        (*CALIBRATED, "m.gguf", "--stats", "{}"),
        (*EVAL, "--json", "{}"),
        (*EVAL, "--plot", "{}"),
        (*PLAN, "--json", "{}"),
        (*PLAN, "--plot", "{}"),
        (*COLLECT, "{}"),
        ("eval_mmlu.py", "questions", "--json", "{}"),
    ],
    ids=" ".join,
)
def test_places_that_cannot_be_written_are_told_before_any_work(words: tuple[str, ...], inputs: Path) -> None:
    """There is nothing that the work could be done with: neither llama.cpp nor a server."""
    command = [sys.executable, str(TOOLS / words[0]), *(word.format("/proc/out") for word in words[1:])]
    command += [] if words[0] in ("plan_eoq.py", "eval_mmlu.py") else ["--llama-bin", str(inputs)]
    done = subprocess.run(command, cwd=inputs, capture_output=True, text=True)
    assert_refused(done, "cannot write in /proc")
