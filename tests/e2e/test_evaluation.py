"""tools/eval_eoq.py over real packed files in the patched llama.cpp."""

import json
import math
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from terminal.cores import available_cores
from tests.e2e.command import ROOT, perplexity, run
from tests.e2e.conftest import Convert

EVALUATE = (sys.executable, ROOT / "tools" / "eval_eoq.py")
CHUNKS, CONTEXT = 2, 256


@pytest.fixture(scope="module")
def results(
    programs: Path, smollm2_f16: Path, smollm2: Convert, evaluation_text: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """F16 against itself, EOQ6 and EOQ4."""
    folder = tmp_path_factory.mktemp("evaluation")
    work, output, picture = folder / "work", folder / "results.json", folder / "results.png"
    work.mkdir()
    inputs = ("--base", smollm2_f16, "--text", evaluation_text, "--llama-bin", programs, "--work-dir", work)
    sizes = ("--chunks", str(CHUNKS), "--context", str(CONTEXT))
    models = (smollm2_f16, smollm2("eoq6"), smollm2("eoq4"))
    print(run(*EVALUATE, *models, *inputs, *sizes, "--json", output, "--plot", picture))
    assert list(work.iterdir()) == []
    assert picture.read_bytes().startswith(b"\x89PNG")
    read: dict[str, Any] = json.loads(output.read_text())
    return read


def test_divergence_grows_as_bits_shrink(results: dict[str, Any]) -> None:
    itself, eoq6, eoq4 = results["models"]
    assert results["scored_tokens"] == CHUNKS * (CONTEXT - 1 - CONTEXT // 2)
    # the base's log-probabilities are stored in steps of 16/65535
    assert abs(itself["kld"]["value"]) < 16 / 65535
    assert itself["same_top"]["value"] > 0.99
    assert itself["kld"]["value"] < eoq6["kld"]["value"] < eoq4["kld"]["value"] < 2
    assert 6 < eoq6["block_bits_per_weight"] < 6.5 and 4 < eoq4["block_bits_per_weight"] < 4.5


def test_perplexities_are_those_of_plain_runs(
    results: dict[str, Any], programs: Path, smollm2: Convert, evaluation_text: Path
) -> None:
    itself, eoq6, _ = results["models"]
    plain = perplexity(programs, smollm2("eoq6"), evaluation_text, chunks=CHUNKS, context=CONTEXT)
    assert math.isclose(eoq6["perplexity"]["value"], plain, rel_tol=1e-4)
    assert math.isclose(itself["perplexity_ratio"]["value"], 1, rel_tol=1e-5)


def test_the_last_numbers_arrive_on_a_busy_machine(programs: Path, smollm2: Convert, evaluation_text: Path) -> None:
    """A log has a thread of its own; without the patch's flush most of these runs end before it has printed."""
    model = smollm2("eoq6")
    with ExitStack() as busy:
        for _ in range(2 * available_cores()):
            process = busy.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            busy.callback(process.kill)
        estimates = {perplexity(programs, model, evaluation_text, chunks=1, context=32) for _ in range(6)}
    assert len(estimates) == 1


@pytest.mark.download
def test_a_model_with_another_vocabulary_is_refused(
    programs: Path, smollm2_f16: Path, minilm_f32: Path, evaluation_text: Path
) -> None:
    inputs = ("--base", smollm2_f16, "--text", evaluation_text, "--llama-bin", programs)
    output = run(*EVALUATE, minilm_f32, *inputs, expect_failure=True)
    assert output.startswith("error: ") and "another vocabulary" in output
