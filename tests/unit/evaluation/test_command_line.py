"""tools/eval_eoq.py as users call it, with a program that stands in for llama-perplexity."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.samples.waiting import LONGEST
from tests.unit.evaluation.conftest import MakeModel

TOOL = [sys.executable, str(Path(__file__).resolve().parents[3] / "tools" / "eval_eoq.py")]


def test_table_on_standard_output_and_files(
    make_model: MakeModel, text: Path, fake_bin: Path, work: Path, tmp_path: Path
) -> None:
    models = [make_model("m-eoq4.gguf", "EOQ4"), make_model("m-iq4.gguf", "Q8_0")]
    outputs = ["--json", tmp_path / "o.json", "--plot", tmp_path / "o.png"]
    inputs = ["--base", make_model("base.gguf"), "--text", text, "--llama-bin", fake_bin, "--work-dir", work]
    command = [*TOOL, *map(str, [*inputs, *models, *outputs])]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("base base.gguf, text text.txt")
    assert "| m-eoq4.gguf " in done.stdout and "0.06120" in done.stdout
    assert "m-iq4.gguf: mean KLD 0.06120" in done.stderr
    assert [m["kld"]["value"] for m in json.loads((tmp_path / "o.json").read_text())["models"]] == [0.0271, 0.0612]
    assert (tmp_path / "o.png").stat().st_size > 1000


def test_quiet(make_model: MakeModel, text: Path, fake_bin: Path, work: Path) -> None:
    inputs = ["--base", make_model("base.gguf"), "--text", text, "--llama-bin", fake_bin, "--work-dir", work, "--quiet"]
    done = subprocess.run([*TOOL, *map(str, [*inputs, make_model("m.gguf")])], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_error_is_one_sentence_and_status_1(make_model: MakeModel, text: Path, fake_bin: Path, work: Path) -> None:
    inputs = ["--base", make_model("base.gguf"), "--text", text, "--llama-bin", fake_bin, "--work-dir", work, "--quiet"]
    done = subprocess.run([*TOOL, *map(str, [*inputs, make_model("m-fails.gguf")])], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: llama-perplexity failed (status 1) on ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(("base", "model"), [("base-slow.gguf", "m.gguf"), ("base.gguf", "m-slow.gguf")])
def test_stopping_leaves_nothing_behind(
    make_model: MakeModel,
    text: Path,
    fake_bin: Path,
    work: Path,
    number: signal.Signals,
    status: int,
    base: str,
    model: str,
) -> None:
    inputs = ["--base", make_model(base), "--text", text, "--llama-bin", fake_bin, "--work-dir", work]
    command = [*TOOL, *map(str, [*inputs, make_model(model)])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + LONGEST
        assert process.stderr is not None
        # its line comes before the program starts; the folder of the logits is there already
        while process.stderr.readline() != (f"base {base} …\n" if "slow" in base else f"[1/1] {model} …\n"):
            assert time.monotonic() < deadline
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(LONGEST) == status
    assert list(work.iterdir()) == []
