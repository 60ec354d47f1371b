"""A bound on memory: what keeps to it, what is refused with the least that would do, and that it is kept."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import CalibrationOptions, ConversionOptions, RoundingOptions, convert
from converter.errors import OptionError
from converter.memory import within_memory
from converter.plan import Plan, resolve_plan
from converter.sizes import parse_size
from converter.statistics import fingerprint
from converter.statistics.moments_file import InputLayout, StatisticsHead, StatisticsWriter
from converter.statistics.triangle import pack
from gguf_files.source import Source, open_gguf
from llama_programs.run import timed_run
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf

TOOL = Path(__file__).resolve().parents[3] / "tools" / "convert_eoq.py"
CHANNELS = 3072
NAME = "blk.0.ffn_down.weight"


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Rows that take much more memory than all else of the model."""
    weights = random_weights(1, 8, CHANNELS)
    return open_gguf(write_gguf(tmp_path / "source.gguf", tiny_model() | {NAME: weights}))


def plan_of(source: Source, options: ConversionOptions) -> Plan:
    return resolve_plan(source.tensors, source.architecture, options.types)


def least_of(error: str) -> int:
    said = re.search(r"give at least --max-memory (\d+M)$", error)
    assert said, error
    return parse_size(said[1])


def refused(options: ConversionOptions, source: Source) -> str:
    with pytest.raises(OptionError) as raised:
        within_memory(replace(options, max_memory=1), plan_of(source, options), source)
    return str(raised.value)


def test_the_least_that_would_do_does(source: Source) -> None:
    for rounding in (RoundingOptions(), RoundingOptions("nearest", awq=False)):
        options = ConversionOptions(rounding=rounding)
        least, plan = least_of(refused(options, source)), plan_of(source, options)
        within_memory(replace(options, max_memory=least), plan, source)
        with pytest.raises(OptionError):
            within_memory(replace(options, max_memory=least - 2 * 10**6), plan, source)
    assert within_memory(options, plan, source) is options


def test_the_tensor_that_needs_it_is_named(source: Source) -> None:
    said = refused(ConversionOptions(), source)
    assert said.startswith(f"--max-memory 0M is too little for rounding {NAME} (rows of {CHANNELS:,} weights); give ")


def test_calibration_gets_what_is_left(source: Source) -> None:
    options = ConversionOptions()
    least, plan = least_of(refused(options, source)), plan_of(source, options)
    limits = [
        within_memory(replace(options, max_memory=bound), plan, source).calibration.memory_limit
        for bound in (least, least + 10**8, 10**12)
    ]
    largest = 2 * CHANNELS**2
    assert largest <= limits[0] and limits[1] == limits[0] + 10**8
    assert limits[2] == options.calibration.memory_limit
    finer = replace(options, calibration=CalibrationOptions(memory_limit=5), max_memory=10**12)
    assert within_memory(finer, plan, source).calibration.memory_limit == 5


def test_the_bound_is_kept_and_makes_no_difference(source: Source, tmp_path: Path, folder: Path) -> None:
    """The bound is the least that is let through, so that too small an estimate shows."""
    statistics = tmp_path / "s.stats"
    layout = InputLayout("blk.0.ffn_down", CHANNELS, 1, False, (NAME,))
    head = StatisticsHead(fingerprint(source), 10**5, "identity", (), (layout,))
    with StatisticsWriter(statistics, head) as writer:
        diagonal = np.linspace(1, 2, CHANNELS, dtype=np.float32)
        writer.write(pack(np.diag(diagonal)), diagonal[None], np.array([1e5]))
        writer.commit()
    options = ConversionOptions(statistics=statistics, threads=1)
    least = least_of(refused(options, source))
    command = [sys.executable, str(TOOL), str(source.paths[0]), str(folder / "m.gguf"), "--stats", str(statistics)]
    _, peak = timed_run([*command, "--threads", "1", "--max-memory", f"{least // 10**6}M"])
    assert 4 * 4 * CHANNELS**2 < peak <= least
    whole = convert(source.paths[0], tmp_path / "whole.gguf", options)
    assert (folder / "m.gguf").read_bytes() == whole.target.read_bytes()


def test_a_bound_that_means_nothing() -> None:
    with pytest.raises(OptionError, match="must be positive"):
        ConversionOptions(max_memory=0)
