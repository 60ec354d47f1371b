"""Conversions with statistics that are at hand: what is scaled, said and refused. Nothing is calibrated."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from numpy.typing import NDArray

from converter import ConversionOptions, ConversionReport, RoundingOptions, TypeOptions, convert
from converter.errors import StatisticsError
from converter.report.display import summary_lines
from converter.statistics import fingerprint, open_statistics
from converter.statistics.moments_file import InputLayout, StatisticsHead, StatisticsWriter
from converter.statistics.triangle import pack
from eoq_formats.errors import NonFiniteWeightError
from gguf_files.source import open_gguf
from gguf_files.tensor_types import type_name
from tests.samples.gguf_samples import random_weights, write_gguf
from tests.samples.moments_samples import inputs, mean_of_products
from tests.unit.converter.statistics.test_imatrix import write_imatrix

N, TOKENS = 128, 200
NORM, Q, OUTPUT = "blk.0.attn_norm.weight", "blk.0.attn_q.weight", "output.weight"
TENSORS = (Q, "blk.0.attn_k.weight", "blk.0.attn_v.weight")
STRENGTHS = np.exp(np.random.default_rng(1).standard_normal(N)).astype(np.float32)
"""Of the channels that flow into attention, which scales are worth the trouble for."""
NOTE = "no statistics for token_embd.weight: its rows are looked up, not multiplied"


def write_model(folder: Path, norm: NDArray[np.float32] | None = None) -> Path:
    """A llama of one block, or of what matters here."""

    def heads(writer: GGUFWriter) -> None:
        writer.add_head_count(4)

    tensors: dict[str, NDArray[np.generic]] = {
        NORM: np.ones(N, np.float32) if norm is None else norm,
        **{name: random_weights(i, N, N, dtype=np.float32) for i, name in enumerate(TENSORS)},
        OUTPUT: random_weights(9, 40, N),
    }
    return write_gguf(folder / "model.gguf", tensors, heads)


def write_sums(folder: Path, tensors: Sequence[str] = TENSORS, silent: Sequence[str] = ()) -> Path:
    """An imatrix of attention's inputs; of what is `silent` no token was seen."""
    sums: dict[str, NDArray[np.generic]] = {}
    for name in tensors:
        sums[f"{name}.in_sum2"] = TOKENS * STRENGTHS[None] ** 2
        sums[f"{name}.counts"] = np.full((1, 1), 0 if name in silent else TOKENS, np.float32)
    return write_imatrix(folder / "imatrix.gguf", sums)


def write_moments(folder: Path, model: Path, tokens: int = TOKENS, tensors: tuple[str, ...] = TENSORS) -> Path:
    """Statistics of attention's inputs, with a note."""
    layout = InputLayout("blk.0.attn_q", N, 1, False, tensors)
    head = StatisticsHead(fingerprint(open_gguf(model)), tokens, "made up", (NOTE,), (layout,))
    moments = mean_of_products(inputs(1, tokens, N) * STRENGTHS)
    with StatisticsWriter(folder / "model.stats", head) as writer:
        writer.write(pack(moments), np.diag(moments)[None], np.array([tokens]))
        writer.commit()
    return folder / "model.stats"


def convert_with(
    model: Path, statistics: Path, target: Path, options: RoundingOptions, types: TypeOptions | None = None
) -> ConversionReport:
    chosen = ConversionOptions(types or TypeOptions(), options, statistics=statistics, threads=1)
    return convert(model, target, chosen)


METHODS = pytest.mark.parametrize("method", ["nearest", "feedback"])


@METHODS
@pytest.mark.parametrize("kind", ["imatrix", "moments"])
def test_statistics_that_are_at_hand_are_used(kind: str, method: str, tmp_path: Path, folder: Path) -> None:
    model = write_model(tmp_path)
    statistics = write_sums(tmp_path) if kind == "imatrix" else write_moments(tmp_path, model)
    report = convert_with(model, statistics, folder / "m.gguf", RoundingOptions(method, awq=True))
    (fold,) = (fold for fold in report.folds if not fold.is_identity)
    assert fold.producer == NORM and fold.consumers == TENSORS
    scaled = {record.plan.tensor.name for record in report.records if record.is_scaled}
    assert scaled == {NORM, *TENSORS}
    with_feedback = {record.plan.tensor.name for record in report.records if record.method == "feedback"}
    assert with_feedback == (set(TENSORS) if method == "feedback" else set())
    assert report.statistics == open_statistics(statistics).description


@METHODS
@pytest.mark.parametrize("kind", ["imatrix", "moments"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_norm_that_is_scaled_and_no_number_is_refused_by_name(
    kind: str, method: str, bad: float, tmp_path: Path, folder: Path
) -> None:
    norm = np.ones(N, np.float32)
    norm[7] = bad
    model = write_model(tmp_path, norm)
    statistics = write_sums(tmp_path) if kind == "imatrix" else write_moments(tmp_path, model)
    with pytest.raises(NonFiniteWeightError, match=rf"tensor {NORM} has a NaN or an infinity in row 0"):
        convert_with(model, statistics, folder / "m.gguf", RoundingOptions(method, awq=True))
    assert not list(folder.iterdir())


@pytest.mark.parametrize("kind", ["imatrix", "moments"])
@pytest.mark.parametrize(
    ("type", "overrides", "method", "helps"),
    [
        ("eoq4", (), "feedback", False),
        ("eoq4", (), "nearest", True),
        ("eoq2", (), "feedback", True),
        ("eoq2t", (), "feedback", True),
        # one of the three that the norm feeds
        ("eoq4", (f"{Q}=eoq2",), "feedback", True),
        # what the scales of attention do nothing for
        ("eoq4", (f"{OUTPUT}=eoq2",), "feedback", False),
    ],
)
def test_unless_told_otherwise_scales_are_for_two_bits_and_for_rounding_without_feedback(
    kind: str, type: str, overrides: tuple[str, ...], method: str, helps: bool, tmp_path: Path, folder: Path
) -> None:
    model = write_model(tmp_path)
    statistics = write_sums(tmp_path) if kind == "imatrix" else write_moments(tmp_path, model)
    types = TypeOptions(type, tensor_types=overrides)
    report = convert_with(model, statistics, folder / "m.gguf", RoundingOptions(method), types)
    # an imatrix has no correlations for error feedback to work with
    assert [fold.producer for fold in report.folds] == ([NORM] if helps or kind == "imatrix" else [])
    assert ("awq" in report.method) == (helps or kind == "imatrix")
    assert "awq=auto" in report.options


@pytest.mark.parametrize(("method", "awq"), [("nearest", True), ("feedback", False), ("feedback", True)])
def test_notes_of_the_statistics_are_told_once(method: str, awq: bool, tmp_path: Path, folder: Path) -> None:
    model = write_model(tmp_path)
    report = convert_with(model, write_moments(tmp_path, model), folder / "m.gguf", RoundingOptions(method, awq=awq))
    assert report.notes.count(NOTE) == 1
    assert len(set(report.notes)) == len(report.notes)


def test_too_few_tokens_for_a_tensor_are_told(tmp_path: Path, folder: Path) -> None:
    model = write_model(tmp_path)
    statistics = write_moments(tmp_path, model, tokens=50)
    report = convert_with(model, statistics, folder / "m.gguf", RoundingOptions(awq=False))
    told = [note for note in report.notes if "tokens of calibration" in note]
    assert told == [
        f"{Q}, the worst of 3 tensors, saw 50 tokens of calibration, and needs 64 for statistics to rely on; "
        "give more text"
    ]


def test_an_imatrix_of_few_of_the_weights_is_refused_unless_asked_for(tmp_path: Path, folder: Path) -> None:
    """As that of another model is, which has a tensor of the same name and shape."""
    model, imatrix = write_model(tmp_path), write_sums(tmp_path, TENSORS[:2])
    options = RoundingOptions("nearest", awq=True)
    with pytest.raises(
        StatisticsError, match=rf"of 67 % of the weights in blocks, and of {TENSORS[2]} none.*--allow-p"
    ):
        convert_with(model, imatrix, folder / "m.gguf", options)
    assert not list(folder.iterdir())
    chosen = ConversionOptions(TypeOptions("eoq3"), options, statistics=imatrix, allow_partial_statistics=True)
    report = convert(model, folder / "m.gguf", chosen)
    assert report.coverage == pytest.approx(2 / 3)
    assert {r.plan.tensor.name: type_name(r.plan.type) for r in report.records}[TENSORS[2]] == "eoq5"
    assert any(line.endswith("; of 66.7 % of the weights in blocks") for line in summary_lines(report))
    # statistics that are known to be this model's hold all that could be measured
    own = write_moments(tmp_path, model, tensors=TENSORS[:2])
    assert convert_with(model, own, folder / "m.gguf", options).coverage == pytest.approx(2 / 3)


def test_tensors_of_an_imatrix_that_saw_no_token_are_not_measured(tmp_path: Path, folder: Path) -> None:
    model, imatrix = write_model(tmp_path), write_sums(tmp_path, silent=(TENSORS[1],))
    with pytest.raises(StatisticsError, match=rf"of 67 % of the weights in blocks, and of {TENSORS[1]} none"):
        convert_with(model, imatrix, folder / "m.gguf", RoundingOptions())
