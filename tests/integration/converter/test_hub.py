"""Models of the Hugging Face Hub through the tools, from a hub on this machine."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

from tests.integration.converter.command_line import TOOL, assert_refused
from tests.integration.converter.test_hf_folders import stand_in
from tests.integration.options.conftest import write_model
from tests.integration.options.tools import done, refused
from tests.samples.hub_server import Hub, Repository, hub_of_this_process, running_hub
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.samples.waiting import LONGEST

ID = "org/nice-model"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with running_hub(tmp_path / "home") as hub:
        yield hub


@pytest.fixture
def model(hub: Hub, tmp_path: Path) -> Repository:
    write_tiny_llama(tmp_path / "model")
    files = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    return hub.add(ID, files | {"README.md": b"---\nlicense: mit\n---\n"})


def run(hub: Hub, *words: str | Path, tool: str = "convert", **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL.with_name(f"{tool}_eoq.py")), *map(str, words)]
    environment = hub.environment | variables
    return subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environment)


@pytest.mark.llama_cpp
def test_a_model_is_converted_by_its_id(hub: Hub, model: Repository, folder: Path, llama_source: Path) -> None:
    words = ("--rtn", "--llama-dir", llama_source)
    ended = run(hub, ID, folder / "m.gguf", *words)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "downloading the model …" in ended.stdout.splitlines()
    fields = gguf.GGUFReader(folder / "m.gguf").fields
    assert [fields[f"general.{name}"].contents() for name in ("name", "license")] == ["Nice Model", "mit"]
    ended = run(hub, ID, folder / "again.gguf", *words, "--quiet", HF_HUB_OFFLINE="1")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert (folder / "m.gguf").read_bytes() == (folder / "again.gguf").read_bytes()


@pytest.mark.llama_cpp
def test_a_branch_that_has_moved_is_seen(hub: Hub, model: Repository, folder: Path, llama_source: Path) -> None:
    first, work = model.commit, folder / "m.gguf.work"
    words = (ID, folder / "m.gguf", "--rtn", "--llama-dir", llama_source)
    command = [sys.executable, "-c", STOPS_AT_ROUNDING, "convert", *map(str, words)]
    stopped = subprocess.run(command, capture_output=True, text=True, env=hub.environment, cwd=TOOL.parents[1])
    assert "kept in" in stopped.stderr and (work / "source.gguf").exists(), stopped.stderr
    model.change(model.files | {"README.md": b"better"})
    ended = run(hub, *words, "--resume")
    assert_refused(ended, f"is of a conversion with the commit of {ID} {first} and not {model.commit}")
    assert not (hub.home / "hub" / "models--org--nice-model" / "snapshots" / model.commit).exists()
    model.branches["v1"] = first
    ended = run(hub, *words, "--resume", "--revision", "v1")
    assert ended.returncode == 0, ended.stderr


STOPS_AT_ROUNDING = """
import sys
from eoq.__main__ import main
import converter.pipeline as pipeline
def stop(*words):
    raise OSError("stopped")
pipeline._write = stop
sys.exit(main(sys.argv[1:]))
"""


TOOLS = {
    "convert": (ID, "{out}/m.gguf", "--rtn"),
    "plan": (ID, "--target-bpw", "5"),
    "stats": ("collect", ID, "{out}/m.stats", "--llama-bin", "{bin}"),
    "verify": ("{kept}", "--against", ID),
    "export-hf": (ID, "{out}/made", "--rtn"),
    "fastewq-dataset": ("{out}/d.csv", ID),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_every_tool_takes_ids_and_revisions(
    tool: str, model: Repository, hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far as to the converter, which is given the folder of that --revision."""
    first = model.commit
    model.branches["v1"] = first
    model.change(model.files | {"README.md": b"better"})
    tree = stand_in(tmp_path, "import sys\nraise SystemExit('given ' + sys.argv[-1].replace('/', ':'))")
    (tmp_path / "llama-moments").touch(0o755)
    names = {"out": folder, "bin": tmp_path, "kept": write_model(tmp_path / "kept.gguf")}
    words = [word.format(**names) for word in TOOLS[tool]]
    with hub_of_this_process(tmp_path / "here", monkeypatch) as here:
        here.repositories = hub.repositories
        said = refused(tool, *words, "--llama-dir", tree, "--revision", "v1")
        assert said.endswith(":nice-model") and f"GET /api/models/{ID}/revision/v1" in here.requests
        snapshots = here.home / "hub" / "models--org--nice-model" / "snapshots"
        assert [path.name for path in snapshots.iterdir()] == [first] and f"{first}: given " in said
    assert not list(folder.iterdir())


def test_fastewq_takes_the_configuration_alone(
    model: Repository, hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub_of_this_process(tmp_path / "here", monkeypatch) as here:
        here.repositories = hub.repositories
        done("plan", ID, "--planner", "fastewq", "--json", folder / "plan.json")
        assert here.downloads() == ["config.json"]
    assert json.loads((folder / "plan.json").read_text())["model"] == "nice-model"


def test_an_interrupted_download_ends_at_once(hub: Hub, model: Repository, folder: Path, tmp_path: Path) -> None:
    hub.stalls = True
    tree = stand_in(tmp_path, "raise SystemExit('must not run')")
    command = [sys.executable, str(TOOL), ID, str(folder / "m.gguf"), "--rtn", "--llama-dir", str(tree)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=hub.environment
    ) as process:
        hub.stalled.wait(LONGEST)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=LONGEST)
    assert (process.returncode, errors) == (130, "error: interrupted; nothing was written\n")
    assert not list(folder.iterdir())
