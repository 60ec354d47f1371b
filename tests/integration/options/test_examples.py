"""The first example of every command's --help runs as it is printed, on a small model and the built llama.cpp."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eoq.__main__ import COMMANDS
from tests.e2e.test_server import llama_server
from tests.integration.options.tools import ROOT, done, parser_of
from tests.samples.tiny_sources import write_folder_and_gguf, write_text
from tests.samples.waiting import LONGEST

pytestmark = pytest.mark.llama_cpp

MAKES = {
    "setup": (),
    "convert": ("smollm2-EOQ4.gguf", "smollm2-EOQ4.report.json"),
    "plan": ("plan.json",),
    "stats": ("code.stats",),
    "verify": (),
    "inspect": (),
    "eval": (),
    "export-hf": ("smollm2-eoq5",),
    "mmlu": ("EOQ4.json",),
    "fastewq-dataset": ("blocks.csv",),
    "patch": (),
}
"""What the example writes, of which nothing is there before; convert uses statistics that are."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, llama_source: Path, programs: Path) -> Path:
    """A folder with all that the examples name: one random model under many names."""
    folder = tmp_path_factory.mktemp("examples")
    model, gguf = write_folder_and_gguf("llama", folder, llama_source)
    (folder / "models").mkdir()
    for name in ("SmolLM2-135M", "model-b"):
        shutil.copytree(model, folder / "models" / name)
    for name in ("model-F16.gguf", "model-a-F16.gguf"):
        (folder / name).hardlink_to(gguf)
    done("convert", gguf, folder / "model-EOQ4.gguf", "--rtn", "--quiet")
    shutil.copy(folder / "model-EOQ4.gguf", folder / "model-IQ4_XS.gguf")
    for name in ("news.txt", "code.txt"):
        (folder / name).write_text(5 * write_text(folder).read_text())
    calibration = ("--calib", folder / "code.txt", "--llama-bin", programs, "--quiet")
    done("stats", "collect", gguf, folder / "model.stats", *calibration)
    shutil.copy(folder / "model.stats", folder / "smollm2.stats")
    for part in ("test", "dev"):
        (folder / "mmlu" / "data" / part).mkdir(parents=True)
        questions = "".join(f"{n} and {n}?,{n},{2 * n},{3 * n},{4 * n},B\n" for n in range(1, 6))
        (folder / "mmlu" / "data" / part / f"sums_{part}.csv").write_text(questions)
    (folder / "llama.cpp").symlink_to(llama_source)
    return folder


def first_example(command: str) -> list[str]:
    """The words after `eoq` of the first line of examples that calls it."""
    examples = parser_of(command).format_help().partition("\nexamples:\n")[2]
    line = next(line for line in examples.splitlines() if line.startswith("  eoq "))
    words = shlex.split(line)
    assert words[:2] == ["eoq", command]
    assert not set(line) & set("|&;<>*$`\\"), "no shell reads it here"
    return words[1:]


@contextmanager
def needed(command: str, prepared: Path, programs: Path) -> Iterator[list[str]]:
    """What must be there before a command: mmlu's server, whose port of its own is all that is added to the example."""
    if command != "mmlu":
        yield []
        return
    with llama_server(programs, prepared / "model-EOQ4.gguf") as address:
        yield ["--server", address]


def test_every_command_is_tried() -> None:
    assert set(MAKES) == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_first_example_runs(command: str, prepared: Path, programs: Path) -> None:
    with needed(command, prepared, programs) as more:
        before = {path.name for path in prepared.iterdir()}
        ended = subprocess.run(
            [sys.executable, "-m", "eoq", *first_example(command), *more],
            capture_output=True,
            text=True,
            cwd=prepared,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=LONGEST,
        )
    assert ended.returncode == 0, ended.stderr
    assert "error: " not in ended.stderr and ended.stdout.strip()
    assert {path.name for path in prepared.iterdir()} - before == set(MAKES[command])
