"""Importance matrices that llama-imatrix wrote, given to tools/convert_eoq.py."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from converter.statistics import check_statistics, open_statistics
from gguf_files.source import open_gguf
from tests.e2e.command import run
from tests.integration.converter.command_line import assert_refused, run_calibrated
from tests.samples.tiny_ggufs import EXPERTS, write_gguf_model
from tests.samples.tiny_sources import write_folder_and_gguf, write_text

pytestmark = pytest.mark.llama_cpp


@pytest.fixture
def mixture(tmp_path: Path, llama_source: Path) -> Path:
    _, tokens_of = write_folder_and_gguf("llama", tmp_path, llama_source)
    return write_gguf_model("qwen3moe", tmp_path / "qwen3moe.gguf", tokens_of)


def test_one_in_the_old_form_serves_after_the_command_that_its_error_names(
    mixture: Path, tmp_path: Path, folder: Path, programs: Path
) -> None:
    measure = (programs / "llama-imatrix", "-m", mixture, "-f", write_text(tmp_path), "-c", "128")
    old, new = tmp_path / "an old one.dat", folder / "new.gguf"
    run(*measure, "-o", old, "--output-format", "dat")
    run(*measure, "-o", tmp_path / "imatrix.gguf")
    done = run_calibrated(mixture, folder / "m.gguf", "--imatrix", old)
    assert_refused(done, f"{old} is neither a statistics file nor an importance matrix in GGUF form")
    command = re.search(r"(llama-imatrix .*)$", done.stderr)
    assert command is not None
    names = {"llama-imatrix": programs / "llama-imatrix", "MODEL.gguf": mixture, "NEW.gguf": new}
    run(*(names.get(word, word) for word in shlex.split(command[1])))
    source = open_gguf(mixture)
    was, now = (check_statistics(open_statistics(path), source) for path in (tmp_path / "imatrix.gguf", new))
    assert set(now.tensor_names) == set(was.tensor_names)
    name = "blk.1.ffn_up_exps.weight"
    assert now.diagonal(name).shape == was.diagonal(name).shape
    for expert in range(EXPERTS):
        if was.counts(name)[expert]:  # of others the old form has ones
            assert np.allclose(now.diagonal(name)[expert], was.diagonal(name)[expert], rtol=1e-4)
    done = run_calibrated(mixture, folder / "m.gguf", "--imatrix", new, "--awq", "off", "--rounding", "feedback")
    assert done.returncode == 0, done.stderr
    assert "; of 100.0 % of the weights in blocks" in done.stdout
