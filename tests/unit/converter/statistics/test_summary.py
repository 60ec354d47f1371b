"""Statistics as tables."""

from pathlib import Path

import numpy as np
import pytest

from converter.errors import StatisticsError
from converter.statistics import comparison_lines, difference, open_statistics, summarise, table_lines
from tests.samples.moments_samples import DOWN, Q, model, write_statistics
from tests.unit.converter.statistics.test_imatrix import sample, sums, write_imatrix


def test_a_line_a_tensor(folder: Path) -> None:
    s = write_statistics(folder / "s.stats", model(folder), seed=5)
    first, *_, last = summarise(s)
    diagonal = s.diagonal(Q)[0]
    assert first.name == Q and first.least_tokens == 50 and first.is_full and first.short_of_tokens == ()
    assert first.mean_square == pytest.approx(diagonal.mean())
    assert first.peak == pytest.approx(diagonal.max() / diagonal.mean())
    assert last.name == DOWN and last.experts == 3 and last.least_tokens == 0 and last.short_of_tokens == (2,)
    lines = list(table_lines(s))
    assert "moments of 3 tensors, 50 tokens" in lines[0] and lines[1] == "from text 5"
    assert lines[-2].split()[:4] == [DOWN, "32", "3", "0"] and lines[-2].endswith("too few tokens: 1 of 3 experts")
    assert lines[-1] == "note: a note"


def test_an_imatrix(folder: Path) -> None:
    lines = list(table_lines(open_statistics(write_imatrix(folder / "i.gguf", sample()))))
    assert "diagonals of moments of 2 tensors, 100 tokens" in lines[0] and lines[2].endswith("unknown")


def test_differences(folder: Path) -> None:
    source = model(folder)
    a, b = (write_statistics(folder / f"{seed}.stats", source, seed=seed) for seed in (5, 8))
    assert difference(a, a, Q) == 0 and difference(a, a, DOWN, 2) == 0
    x, y = a.moments(Q), b.moments(Q)
    scales = np.diag(1 / np.sqrt(np.diag(x)))
    expected = np.linalg.norm(scales @ (x - y) @ scales) / np.linalg.norm(scales @ x @ scales)
    assert difference(a, b, Q) == pytest.approx(expected, rel=1e-5)
    _, first, second = comparison_lines(a, b)  # attn_k has the input of attn_q
    assert first.split() == [Q, "64", f"{100 * expected:.2f}", "%"] and second.startswith(DOWN)


def test_differences_of_diagonals(folder: Path) -> None:
    a = write_statistics(folder / "s.stats", model(folder), seed=5)
    b = open_statistics(write_imatrix(folder / "i.gguf", sample()))
    x, y = a.diagonal(Q)[0], b.diagonal(Q)[0]
    assert difference(a, b, Q) == pytest.approx(np.linalg.norm(1 - y / x) / 8, rel=1e-5)


def test_files_of_different_models_are_not_compared(folder: Path) -> None:
    a = write_statistics(folder / "s.stats", model(folder), seed=5)
    tensors = {f"{Q}.in_sum2": sums(1, 1, 32), f"{Q}.counts": np.ones((1, 1), np.float32)}
    with pytest.raises(StatisticsError, match="differ in shape"):
        list(comparison_lines(a, open_statistics(write_imatrix(folder / "i.gguf", tensors))))
