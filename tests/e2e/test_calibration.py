"""Calibration, measured on packed files in the patched llama.cpp."""

import json
import sys
from pathlib import Path

from tests.e2e.command import ROOT, convert, run
from tests.e2e.conftest import Convert


def test_a_calibrated_file_diverges_much_less_than_one_rounded_to_nearest(
    programs: Path, smollm2_f16: Path, smollm2: Convert, evaluation_text: Path, tmp_path: Path
) -> None:
    """Calibrated on the text that comes with the converter, evaluated on news."""
    calibrated, output = tmp_path / "calibrated.gguf", tmp_path / "results.json"
    convert(smollm2_f16, calibrated, "--type", "eoq4", "--calib-tokens", "4096", "--quiet")
    inputs = ("--base", smollm2_f16, "--text", evaluation_text, "--llama-bin", programs, "--work-dir", tmp_path)
    models = (smollm2("eoq4"), calibrated)
    run(sys.executable, ROOT / "tools" / "eval_eoq.py", *models, *inputs, "--chunks", "3", "--json", output)
    nearest, feedback = json.loads(output.read_text())["models"]
    print(f"KL divergence {nearest['kld']['value']:.4f} to nearest, {feedback['kld']['value']:.4f} calibrated")
    assert feedback["bits_per_weight"] == nearest["bits_per_weight"]
    # measured 0.4; the bound allows for few tokens
    assert feedback["kld"]["value"] < 0.6 * nearest["kld"]["value"]
    assert feedback["same_top"]["value"] > nearest["same_top"]["value"]
