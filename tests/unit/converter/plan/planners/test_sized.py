"""Conversions to a size: one calibration, a plan by it, and a file that is no larger."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import (
    Budget,
    BudgetRequest,
    ConversionOptions,
    ConversionProgress,
    RoundingOptions,
    TensorRecord,
    TypeOptions,
    convert,
    dry_run,
)
from converter.errors import OptionError, ResumeError, StatisticsError
from converter.plan.planners import make_proposals
from converter.sizes import parse_size
from gguf_files.source import open_gguf
from gguf_files.tensor_types import eoq_type, type_name
from terminal.progress import Progress
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.unit.converter.statistics.test_imatrix import write_imatrix

TO_NEAREST = ConversionOptions(rounding=RoundingOptions("nearest", awq=False), threads=1)
MEASURED = ("blk.0.attn_q.weight", "blk.0.attn_k.weight")


class BreaksOff(ConversionProgress):
    """Ctrl-C once two tensors are written."""

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        if number == 2:
            raise KeyboardInterrupt


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", tiny_model())


@pytest.fixture
def measured(tmp_path: Path) -> ConversionOptions:
    """Statistics of some tensors."""
    sums = {f"{name}.in_sum2": np.linspace(1, 200, 128, dtype=np.float32)[None] for name in MEASURED}
    counts = {f"{name}.counts": np.full((1, 1), 200, np.float32) for name in MEASURED}
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", {**sums, **counts})
    return ConversionOptions(statistics=imatrix, threads=1, allow_partial_statistics=True)


def of_size(nbytes: int, codes: str = "trellis") -> BudgetRequest:
    return BudgetRequest(Budget(file_bytes=nbytes), codes=codes)


@pytest.mark.parametrize("codes", ["scalar", "trellis"])
@pytest.mark.parametrize("share", [0.2, 0.25, 0.3, 0.5])
def test_the_file_is_no_larger(codes: str, share: float, source: Path, folder: Path) -> None:
    size = int(source.stat().st_size * share)
    report = convert(source, folder / "m.gguf", TO_NEAREST, proposals=of_size(size, codes=codes))
    largest = max(record.plan.tensor.nbytes for record in report.records)
    assert size - largest < report.target.stat().st_size <= size
    assert report.options[:2] == (f"target-size={size}", f"codes={codes}")


def test_weights_without_statistics_have_five_bits_and_are_counted(
    source: Path, folder: Path, measured: ConversionOptions
) -> None:
    """Without counting them the conversion would add bits to a plan that has no room for them."""
    size = source.stat().st_size // 3
    report = convert(source, folder / "m.gguf", measured, proposals=of_size(size))
    assert report.target.stat().st_size <= size
    found = {r.plan.tensor.name: eoq for r in report.records if (eoq := eoq_type(r.plan.type)) is not None}
    assert {name for name, eoq in found.items() if eoq.bits < 5} <= {*MEASURED, "token_embd.weight"}
    planned = dry_run(source, folder / "m.gguf", measured, proposals=of_size(size))
    assert [record.plan.type for record in report.records] == [t.type for t in planned.plan.tensors]


def test_the_plan_is_that_of_the_planner_by_the_same_statistics(
    source: Path, folder: Path, measured: ConversionOptions
) -> None:
    request = of_size(source.stat().st_size // 3)
    report = convert(source, folder / "m.gguf", measured, proposals=request)
    by_them = replace(request, statistics=measured.statistics, allow_partial_statistics=True)
    proposals = make_proposals(open_gguf(source), by_them, TypeOptions(), 1, Progress()).proposals
    again = convert(source, folder / "n.gguf", measured, proposals=proposals)
    assert [record.plan.type for record in report.records] == [record.plan.type for record in again.records]


def test_types_that_options_name_are_counted(source: Path, folder: Path) -> None:
    types = TypeOptions(output_type="q8_0", token_embd_type="f16", tensor_types=("attn_q=q8_0",))
    size = source.stat().st_size // 2
    report = convert(source, folder / "m.gguf", replace(TO_NEAREST, types=types), proposals=of_size(size))
    found = {record.plan.tensor.name: type_name(record.plan.type) for record in report.records}
    assert (found["output.weight"], found["token_embd.weight"], found["blk.0.attn_q.weight"]) == ("q8_0", "f16", "q8_0")
    assert report.target.stat().st_size <= size


def test_long_texts_in_the_metadata_are_counted(source: Path, folder: Path) -> None:
    """So that there is no list of options by which the file becomes larger than it may."""
    ends = "|".join(f"never-{i}" for i in range(30))
    types = TypeOptions(tensor_types=tuple(f"attn_q|{i}|{ends}=eoq5" for i in range(20)))
    size = source.stat().st_size // 2
    options = replace(TO_NEAREST, types=types, quantized_by="A" * 200)
    assert convert(source, folder / "m.gguf", options, proposals=of_size(size)).target.stat().st_size <= size
    with pytest.raises(OptionError, match="needs --target-size") as error:
        convert(source, folder / "n.gguf", options, proposals=of_size(1000))
    least = parse_size(str(error.value).partition("--target-size ")[2].split(",")[0])
    assert convert(source, folder / "m.gguf", options, proposals=of_size(least)).target.stat().st_size <= least


def test_a_resumed_run_has_the_plan_of_the_first(
    source: Path, folder: Path, tmp_path: Path, measured: ConversionOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not make another: sums of floats may differ where the machine is busy with something else."""
    request = of_size(source.stat().st_size // 3)
    whole = convert(source, tmp_path / "whole.gguf", measured, proposals=request).target.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        convert(source, folder / "m.gguf", measured, BreaksOff(), request)
    assert (folder / "m.gguf.work" / "plan.json").exists()
    monkeypatch.setattr("converter.plan.planners.propose.predicted_losses", None)
    report = convert(source, folder / "m.gguf", replace(measured, resume=True), proposals=request)
    assert report.target.read_bytes() == whole
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


def test_another_size_is_another_conversion(source: Path, folder: Path) -> None:
    size = source.stat().st_size // 3
    with pytest.raises(KeyboardInterrupt):
        convert(source, folder / "m.gguf", TO_NEAREST, BreaksOff(), of_size(size))
    with pytest.raises(ResumeError, match=f"with --target-size {size} and not {size + 1}"):
        convert(source, folder / "m.gguf", replace(TO_NEAREST, resume=True), proposals=of_size(size + 1))


@pytest.mark.parametrize("budget", [Budget(file_bytes=5000), Budget(bits_per_weight=1)])
def test_what_is_too_small_names_the_least_that_would_do(budget: Budget, source: Path, folder: Path) -> None:
    with pytest.raises(OptionError, match="the budget is too small: in the smallest types the model needs --") as error:
        convert(source, folder / "m.gguf", TO_NEAREST, proposals=BudgetRequest(budget))
    assert not list(folder.iterdir())
    option, value = str(error.value).partition("needs ")[2].split(",")[0].split()
    least = Budget(float(value)) if option == "--target-bpw" else Budget(file_bytes=parse_size(value))
    convert(source, folder / "m.gguf", TO_NEAREST, proposals=BudgetRequest(least))


def test_a_size_that_the_model_has_already_is_refused(source: Path, folder: Path) -> None:
    with pytest.raises(OptionError, match="keeps to target-size=1000000000: there is nothing to quantise"):
        convert(source, folder / "m.gguf", TO_NEAREST, proposals=of_size(10**9))


def test_a_dry_run_takes_no_statistics(source: Path, folder: Path) -> None:
    request = of_size(source.stat().st_size // 3)
    with pytest.raises(StatisticsError, match="--dry-run takes none: give --stats with a file that is there"):
        dry_run(source, folder / "m.gguf", ConversionOptions(), proposals=request)
    assert dry_run(source, folder / "m.gguf", TO_NEAREST, proposals=request).file_bytes <= source.stat().st_size // 3
