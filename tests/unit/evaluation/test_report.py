"""Table, JSON and plot of an evaluation."""

import json
import math
from pathlib import Path

import pytest

from evaluation import Divergence, Estimate, Evaluation, EvaluationError, Measurement, ModelFile
from evaluation.plot import _front, plot
from evaluation.report import as_json, names, setting, table
from output_files.errors import TargetError


def model(path: str, size: int, *, eoq: bool = False) -> ModelFile:
    return ModelFile(Path(path), size, 8 * size / 1e9, 4.125, eoq, 40, "0" * 64)


def measurement(path: str, size: int, kld: float, *, eoq: bool = False, error: float = 0.001) -> Measurement:
    divergence = Divergence(
        perplexity=Estimate(21.0, 1.6),
        stored_ratio=Estimate(1.06, 0.01),
        kld=Estimate(kld, error),
        kld_median=kld / 2,
        kld_99=10 * kld,
        kld_999=20 * kld,
        kld_max=50 * kld,
        same_top=Estimate(0.9125, 0.0075),
        delta_p_rms=Estimate(0.03, 0.002),
    )
    return Measurement(model(path, size, eoq=eoq), divergence, Estimate(1.05, error), 12.34)


def evaluation(*measurements: Measurement) -> Evaluation:
    return Evaluation(
        model("m/base.gguf", 2 * 10**9), Estimate(20.0, 1.5), Path("t/news.txt"), "ab" * 32, 512, 4, 1020, measurements
    )


BOTH = (measurement("m/EOQ4.gguf", 5 * 10**8, 0.027, eoq=True), measurement("m/IQ4_XS.gguf", 6 * 10**8, 0.06))


def test_table() -> None:
    lines = table(evaluation(*BOTH)).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(line) for line in lines}) == 1
    assert cells[2][:6] == ["base.gguf", "2000.0", "16.000", "4.125", "20.0000 ± 1.5000", "1"]
    assert cells[3] == [
        "EOQ4.gguf", "500.0", "4.000", "4.125", "21.0000 ± 1.6000", "1.0500 ± 0.0010",
        "0.02700 ± 0.00100", "0.01350", "0.2700", "1.350", "91.25 ± 0.75",
    ]  # fmt: skip


def test_an_unknown_error_is_left_out() -> None:
    shown = table(evaluation(measurement("a.gguf", 10**8, 0.01, error=math.nan)))
    assert "nan" not in shown and " 0.01000 |" in shown


def test_files_of_one_name_are_told_apart() -> None:
    assert names([Path("a/m.gguf"), Path("b/m.gguf"), Path("b/n.gguf")]) == ["a/m.gguf", "b/m.gguf", "n.gguf"]


def test_setting() -> None:
    assert setting(evaluation()) == ("base base.gguf, text news.txt (sha256 abababababab), 4 x 512 tokens, 1020 scored")


def test_json_has_no_numbers_that_json_lacks() -> None:
    values = as_json(evaluation(BOTH[0], measurement("a.gguf", 10**8, 0.01, error=math.nan)))
    read = json.loads(json.dumps(values, allow_nan=False))
    assert read["models"][1]["kld"] == {"value": 0.01, "error": None}
    first = read["models"][0]
    assert (first["path"], first["bytes"], first["kld"]["value"]) == ("m/EOQ4.gguf", 5 * 10**8, 0.027)
    assert first["perplexity_ratio"] == {"value": 1.05, "error": 0.001}
    assert first["same_top"]["value"] == 0.9125
    assert read["base"]["perplexity"] == {"value": 20.0, "error": 1.5}
    assert read["text"] == {"path": "t/news.txt", "sha256": "ab" * 32}
    assert (read["context"], read["chunks"], read["scored_tokens"]) == (512, 4, 1020)


# an error bar over zero and a divergence of zero or below must not break the logarithmic axis
@pytest.mark.parametrize("odd", [[], [0.0, 0.001], [-1e-6, math.nan], [0.001, 0.005]])
def test_plot_is_a_png(tmp_path: Path, odd: list[float]) -> None:
    more = [measurement("odd.gguf", 7 * 10**8, odd[0], error=odd[1])] if odd else []
    target = tmp_path / "plot.png"
    plot(evaluation(*BOTH, *more), target)
    assert target.read_bytes().startswith(b"\x89PNG\r\n")


def test_plot_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="nothing to plot"):
        plot(evaluation(), tmp_path / "plot.png")
    with pytest.raises(TargetError, match=r"^cannot write .*absent/plot\.png: No such file or directory$"):
        plot(evaluation(*BOTH), tmp_path / "absent" / "plot.png")


def test_the_front_drops_what_is_beaten_in_both() -> None:
    worse = measurement("worse.gguf", 6 * 10**8, 0.05)
    better = measurement("better.gguf", 9 * 10**8, 0.01)
    assert _front((better, worse, BOTH[0])) == [BOTH[0], better]
