"""Conversions that are killed at any point, and two at once: the target is whole or as it was, and leftovers go."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.converter.command_line import TOOL, assert_refused, run_tool
from tests.integration.converter.test_hf_folders import stand_in
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.samples.waiting import LONGEST

TENSORS = 24


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough work for kills to meet it: a second or two."""
    weights = random_weights(1, 512, 2048)
    tensors = {f"blk.{i}.ffn_up.weight": weights for i in range(TENSORS)}
    return write_gguf(tmp_path_factory.mktemp("source") / "model.gguf", tensors)


def start(*arguments: str | Path) -> "subprocess.Popen[str]":
    """The tool with one thread, rounding to nearest, whose lines come at once."""
    command = [sys.executable, str(TOOL), *map(str, arguments), "--rtn", "--threads", "1"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True)


def wait_for(process: "subprocess.Popen[str]", words: str) -> None:
    assert process.stdout is not None
    while words not in (line := process.stdout.readline()):
        assert line, "the tool ended"


def test_kills_at_random_points(source: Path, folder: Path, pytestconfig: pytest.Config) -> None:
    kills: int = pytestconfig.getoption("--kills")
    target, expected = folder / "m.gguf", folder / "expected.gguf"
    began = time.monotonic()
    assert run_tool(source, expected, "--threads", "1").returncode == 0
    longest = time.monotonic() - began
    target.write_bytes(b"old")
    rest = {path: path.read_bytes() for path in folder.iterdir() if path != target}
    chosen = random.Random(1)
    killed = 0
    for number in range(kills):
        with start(source, target) as process:
            if number % 2:  # half of them amid the work, wherever it begins
                wait_for(process, f"[{chosen.randint(1, TENSORS):2}/{TENSORS}]")
            else:
                time.sleep(chosen.uniform(0, longest))
            process.kill()
            process.communicate(timeout=LONGEST)
        killed += process.returncode == -signal.SIGKILL
        # the last kill may come too late: then the file is whole
        assert target.read_bytes() in (b"old", rest[expected])
        left = [path for path in folder.iterdir() if path not in (target, *rest)]
        assert all(
            path.name.startswith((".m.gguf.", ".m.report.json.")) or path.name in ("m.report.json", "m.gguf.work")
            for path in left
        ), left
    assert killed > kills / 3
    with start(source, target) as process:
        wait_for(process, f"[ 3/{TENSORS}]")
        process.kill()
    work = folder / "m.gguf.work"
    done = run_tool(source, target, "--threads", "1", "--quiet")
    assert done.returncode == 0 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"note: removed what an unfinished run left in {work} (")
    assert done.stderr.endswith("; --resume would have gone on with it\n")
    assert target.read_bytes() == rest[expected]
    assert {path.name for path in folder.iterdir()} == {"m.gguf", "m.report.json", *(path.name for path in rest)}


@pytest.mark.parametrize("splits", [(), ("--split-max-tensors", "5")], ids=["one file", "splits"])
def test_a_killed_conversion_is_gone_on_with(
    splits: tuple[str, ...], source: Path, folder: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Killed up to three times at random points, at last it has the bytes of a conversion that nobody killed."""
    kills: int = pytestconfig.getoption("--kills")
    expected = tmp_path / "expected"
    expected.mkdir()
    began = time.monotonic()
    assert run_tool(source, expected / "m.gguf", "--threads", "1", *splits).returncode == 0
    longest = time.monotonic() - began
    files = {path.name: path.read_bytes() for path in expected.glob("*.gguf")}
    assert len(files) == (5 if splits else 1)
    chosen = random.Random(2)
    killed = kept = 0
    while killed < kills:
        for path in folder.iterdir():
            path.unlink()
        for _ in range(chosen.randint(1, 3)):
            with start(source, folder / "m.gguf", *splits, "--resume") as process:
                assert process.stdout is not None
                if chosen.random() < 2 / 3:  # amid the work, wherever it begins
                    last = chosen.randint(2, TENSORS)
                    next((line for line in process.stdout if line.startswith(f"[{last:2}/")), None)
                    time.sleep(chosen.uniform(0, 0.05))
                else:
                    time.sleep(chosen.uniform(0, longest))
                process.kill()
                process.communicate(timeout=LONGEST)
            killed += process.returncode == -signal.SIGKILL
        done = run_tool(source, folder / "m.gguf", *splits, "--threads", "1", "--resume")
        assert done.returncode == 0 and done.stderr.count("\n") <= 2, done.stderr
        kept += "tensors are kept from the run that broke off" in done.stdout
        assert {path.name: path.read_bytes() for path in folder.glob("*.gguf")} == files
        assert {path.name for path in folder.iterdir()} == {*files, "m.report.json"}
        report = json.loads((folder / "m.report.json").read_text())
        wanted = json.loads((expected / "m.report.json").read_text())
        assert [t | {"seconds": 0} for t in report["tensors"]] == [t | {"seconds": 0} for t in wanted["tensors"]]
    assert kept > 0


def test_a_second_conversion_to_one_target_is_refused(source: Path, folder: Path) -> None:
    target = folder / "m.gguf"
    with start(source, target) as process:
        wait_for(process, f"[ 1/{TENSORS}]")
        process.send_signal(signal.SIGSTOP)
        assert_refused(run_tool(source, target), f"another run is writing {target} at this moment; wait for its end")
        assert run_tool(source, folder / "other.gguf").returncode == 0
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate(timeout=LONGEST)
    assert (process.returncode, errors) == (0, "")
    assert target.read_bytes() == (folder / "other.gguf").read_bytes()
    assert len(list(folder.iterdir())) == 4


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children are not told")
def test_the_converter_of_folders_ends_with_a_killed_tool(folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    write_tiny_llama(model)
    tree = stand_in(
        tmp_path,
        "import os, sys, time\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'x' * 1000)\n"
        "here = os.path.dirname(__file__)\nopen(here + '/pid.part', 'w').write(str(os.getpid()))\n"
        "os.rename(here + '/pid.part', here + '/pid')\ntime.sleep(300)\n",
    )
    pid = tree / "pid"
    with start(model, folder / "m.gguf", "--llama-dir", tree) as process:
        while not pid.exists() and process.poll() is None:
            time.sleep(0.05)
        process.kill()
    child = Path("/proc") / pid.read_text() / "stat"
    deadline = time.monotonic() + LONGEST
    while child.exists() and child.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the converter goes on"
        time.sleep(0.02)
    assert sorted(path.name for path in folder.iterdir()) == [".m.gguf.lock", ".m.report.json.lock", "m.gguf.work"]
    (tree / "convert_hf_to_gguf.py").write_text("raise SystemExit('no')")
    done = run_tool(model, folder / "m.gguf", "--llama-dir", tree)
    note, error = done.stderr.splitlines()
    assert note == f"note: removed what an unfinished run left in {folder / 'm.gguf.work'} (0.0 MiB)"
    assert error.startswith("error: ")
    assert not list(folder.iterdir())
