"""The steps of the GPU check, with programs that print what the real ones would."""

import argparse
import json
from pathlib import Path

import pytest

from bench.gpu.check import Check, run
from bench.inference.llama_bench import LlamaBench
from llama_programs.errors import ProgramFailed

DIVERGENCE = """\
Mean PPL(Q)                   :  30.000000 ±   1.000000
Mean PPL(base)                :  30.000000 ±   1.000000
Mean PPL(Q)/PPL(base)         :   1.000000 ±   0.000100
Mean    KLD:   {kld} ±   0.000001
Maximum KLD:   0.001000
99.9%   KLD:   0.000900
99.0%   KLD:   0.000800
Median  KLD:   0.000001
RMS Δp    :  0.010 ± 0.001 %
Same top p: 99.900 ± 0.010 %
"""
LAB = """\
#!/bin/sh
while [ "$1" != --json ]; do shift; done
echo '{"results": []}' >"$2"
exit STATUS
"""
BACKEND_OPS = """\
#!/bin/sh
echo '  MUL_MAT(type_a=eoq4): OK'
echo '  PASSED/3 tests passed'
exit STATUS
"""


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.fixture
def check(tmp_path: Path) -> Check:
    script(tmp_path, "eoq-lab", LAB.replace("STATUS", "0"))
    script(tmp_path, "test-backend-ops", BACKEND_OPS.replace("PASSED", "3").replace("STATUS", "0"))
    script(tmp_path, "llama-quantize", "#!/bin/sh\nexit 0\n")
    small, large = DIVERGENCE.format(kld="0.000010"), DIVERGENCE.format(kld="0.000020")
    script(
        tmp_path,
        "llama-perplexity",
        f"#!/bin/sh\ncase $* in *EOQ*) cat <<'END'\n{small}END\n;; *) cat <<'END'\n{large}END\n;; esac\n",
    )
    return Check(tmp_path, "CUDA0", tmp_path / "model.gguf", tmp_path / "text.txt", is_quick=True)


def test_steps_that_pass(check: Check) -> None:
    assert check.laboratory() == {"results": [], "passed": True}
    found = check.backend_ops()
    assert found["passed"]
    assert found["GET_ROWS"] == {"passed": 3, "total": 3, "ok": True}
    ours = dict.fromkeys(("EOQ4", "EOQ5", "EOQ3T", "EOQ4T", "EOQ5T"), 1e-5)
    assert check.divergence() == {**ours, "Q4_K": 2e-5, "Q5_K": 2e-5, "passed": True}


def test_wrong_results_do_not_pass(check: Check, tmp_path: Path) -> None:
    script(tmp_path, "eoq-lab", LAB.replace("STATUS", "1"))
    assert not check.laboratory()["passed"]
    script(tmp_path, "test-backend-ops", BACKEND_OPS.replace("PASSED", "2").replace("STATUS", "1"))
    assert not check.backend_ops()["passed"]


def test_no_cases_at_all_do_not_pass(check: Check, tmp_path: Path) -> None:
    """A backend that denies everything tests nothing."""
    script(tmp_path, "test-backend-ops", "#!/bin/sh\necho '  0/0 tests passed'\n")
    assert not check.backend_ops()["passed"]


def test_a_larger_divergence_than_the_peers_does_not_pass(check: Check, tmp_path: Path) -> None:
    program = tmp_path / "llama-perplexity"
    program.write_text(program.read_text().replace("*EOQ*", "*Q4_K*|*Q5_K*"))
    assert not check.divergence()["passed"]


def test_a_step_that_fails_leaves_the_others_and_the_json(
    check: Check, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(tmp_path, "llama-quantize", "#!/bin/sh\necho no such type >&2\nexit 1\n")
    monkeypatch.setattr(Check, "speed", lambda self: {"passed": True})
    target = tmp_path / "out.json"
    options = argparse.Namespace(
        llama_bin=tmp_path, model=check.model, text=check.text, device="CUDA0", quick=True, json=target
    )
    with pytest.raises(ProgramFailed, match=r"^divergence: not passed"):
        run(options)
    steps = json.loads(target.read_text())["steps"]
    assert {name: found["passed"] for name, found in steps.items()} == {
        "laboratory": True,
        "backend_ops": True,
        "divergence": False,
        "speed": True,
    }
    assert steps["divergence"]["error"] == "no such type"
    assert "no such type" in capsys.readouterr().out


def test_the_gpu_is_asked_for_only_when_told() -> None:
    bench = LlamaBench(Path("llama-bench"))
    assert bench.command(Path("m.gguf"), [1])[-6:] == ["-ngl", "0", "-nopo", "1", "-o", "json"]
    on_gpu = LlamaBench(Path("llama-bench"), gpu_layers=99).command(Path("m.gguf"), [1])
    assert on_gpu[-4:] == ["-ngl", "99", "-o", "json"]
