"""tools/stats_eoq.py as a user runs it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from converter.statistics import open_statistics
from tests.e2e.command import ROOT, run
from tests.samples.tiny_sources import write_folder_and_gguf, write_text

STATS = (sys.executable, ROOT / "tools" / "stats_eoq.py")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, llama_source: Path) -> tuple[Path, Path]:
    return write_folder_and_gguf("llama", tmp_path_factory.mktemp("tiny"), llama_source)


def test_collect_show_compare_and_merge(tiny: tuple[Path, Path], tmp_path: Path, llama_source: Path) -> None:
    model, gguf_file = tiny
    text = write_text(tmp_path)
    few = ("--calib", text, "--calib-length", "64", "--threads", "1")
    a, b, both = (tmp_path / f"{name}.stats.gguf" for name in ("a", "b", "both"))
    said = run(*STATS, "collect", gguf_file, a, *few, "--calib-tokens", "256")
    assert f"{a}: 15 tensors; text-60.txt, 4 sequences of 64 tokens, perplexity" in said
    options = ("--calib-tokens", "128", "--calib-memory", "0.0001", "--llama-dir", llama_source)
    assert run(*STATS, "collect", model, b, *few, *options, "--quiet") == ""
    assert "256 tokens" in run(*STATS, "show", a)
    assert run(*STATS, "compare", a, b).count("%") == 9  # four inputs in each of two layers, and the output's
    assert "384 tokens of 2 files" in run(*STATS, "merge", a, b, both)
    assert open_statistics(both).counts("blk.1.ffn_down.weight").tolist() == [384]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*sorted(p.name for p in (a, b, both)), text.name]


def test_kinds_are_kept_apart_and_mixed(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    _, gguf_file = tiny
    long, short = write_text(tmp_path, 60), write_text(tmp_path, 40)
    kinds, mixed, whole = tmp_path / "kinds", tmp_path / "mixed.stats", tmp_path / "whole.stats"
    few = ("--calib", long, "--calib", short, "--calib-length", "64", "--calib-tokens", "512", "--threads", "1")
    said = run(*STATS, "collect", gguf_file, kinds, *few, "--by-text")
    assert sorted(path.name for path in kinds.iterdir()) == ["text-40.stats", "text-60.stats"]
    assert said.count("4 sequences of 64 tokens") == 2
    said = run(*STATS, "mix", kinds / "text-60.stats", f"{kinds / 'text-40.stats'}:1", mixed)
    assert f"{mixed}: 1 x (text-60.txt, 4 sequences of 64 tokens" in said
    run(*STATS, "collect", gguf_file, whole, *few, "--quiet")
    a, b = open_statistics(mixed), open_statistics(whole)
    for name in b.tensor_names:
        assert a.counts(name).tolist() == b.counts(name).tolist()
        apart, together = a.moments(name), b.moments(name)
        assert apart is not None and together is not None
        assert np.allclose(apart, together, rtol=1e-4, atol=1e-6), name
    said = run(*STATS, "mix", f"{mixed}:-1", whole, tmp_path / "x.stats", expect_failure=True)
    assert f"error: the weight of {mixed} must be above 0, not -1" in said


def test_errors_are_one_sentence(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    _, gguf_file = tiny
    for arguments, message in (
        (("show", tmp_path / "none"), "none cannot be read: No such file"),
        (("show", gguf_file), "holds no statistics"),
        (("collect", gguf_file, gguf_file), "which is read; give another name"),
        (("collect", gguf_file, tmp_path / "s", "--calib-tokens", "9"), "less than one sequence"),
        (("collect", gguf_file, tmp_path / "s", "--llama-bin", tmp_path), "has no program llama-moments"),
        (("collect", gguf_file, tmp_path / "s", "--threads", "0"), "the number of threads must be at least 1, not 0"),
        (("collect", tmp_path / "none", tmp_path / "s", "--by-text"), "none does not exist"),
        (("collect", gguf_file, tmp_path / "s", "--by-text", "--calib", gguf_file), "is not UTF-8 text"),
        (("merge", gguf_file, tmp_path / "s"), "holds no statistics"),
    ):
        said = run(*STATS, *arguments, expect_failure=True).splitlines()[-1]
        assert said.startswith("error: ") and message in said, said
    assert not list(tmp_path.iterdir())
