"""Models that change under the programs that read them, and calibrations that outlive a conversion that fails."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from converter import CalibrationOptions, ConversionOptions, ConversionProgress, SourceAccess, convert
from converter.errors import CalibrationError
from converter.statistics.least_size import least_size
from eoq_formats.errors import EoqError, ScaleOverflowError
from evaluation import EvaluationOptions, EvaluationProgress, evaluate
from gguf_files.errors import SourceError
from output_files.claim import kept
from output_files.errors import TargetError
from tests.integration.converter.command_line import assert_refused, run_tool
from tests.integration.converter.test_hf_folders import stand_in
from tests.samples.moments_samples import LAYOUTS, TARGETS, model, write_statistics
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.unit.evaluation.conftest import MakeModel, fake_bin, make_model, text

__all__ = ["fake_bin", "make_model", "text"]

CHANGED = "was changed or cut short while it was read; start again once nothing writes to it"
MakeProgram = Callable[[str], ConversionOptions]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return model(tmp_path).paths[0]


@pytest.fixture
def calibrated_by(source: Path, tmp_path: Path) -> MakeProgram:
    """Options with a program in place of llama-moments, which gives statistics that lie ready after some code."""
    write_statistics(tmp_path / "ready.stats", model(tmp_path), 1)
    program = tmp_path / "bin" / "llama-moments"
    program.parent.mkdir()

    def options(code: str) -> ConversionOptions:
        program.write_text(
            f"#!{sys.executable}\nimport shutil, sys\n{code}\n"
            f"shutil.copy({str(tmp_path / 'ready.stats')!r}, sys.argv[sys.argv.index('-o') + 1])\n"
        )
        program.chmod(0o755)
        return ConversionOptions(calibration=CalibrationOptions(llama_bin=program.parent), threads=1)

    return options


class Failing(ConversionProgress):
    """The conversion breaks off as its first tensor begins."""

    def stage(self, name: str, total: int) -> None:
        if name == "quantising":
            raise EoqError("something happened")


def test_a_folder_that_changes_while_it_is_converted(folder: Path, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "sound")
    shutil.copytree(tmp_path / "sound", tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    write = "import sys\nopen(sys.argv[sys.argv.index('--outfile') + 1], 'wb').write(b'GGUF')\n"
    tree = stand_in(tmp_path, f"{write}open({str(weights)!r}, 'ab').write(b'x')")
    arguments = (tmp_path / "model", folder / "m.gguf", "--llama-dir", tree)
    assert_refused(run_tool(*arguments), f"{weights} {CHANGED}")
    shutil.copy(tmp_path / "sound" / weights.name, weights)
    killed = "import os, signal\nos.kill(os.getpid(), signal.SIGBUS)"
    (tree / "convert_hf_to_gguf.py").write_text(f"open({str(weights)!r}, 'r+b').truncate(100)\n{killed}")
    assert_refused(run_tool(*arguments), f"{weights} {CHANGED}")
    shutil.copy(tmp_path / "sound" / weights.name, weights)
    (tree / "convert_hf_to_gguf.py").write_text(killed)
    assert_refused(run_tool(*arguments), "llama.cpp's converter was ended by SIGBUS while it read")
    assert not list(folder.iterdir())


@pytest.mark.parametrize("end", ["", "sys.exit('error: cannot read')"])
def test_a_model_that_changes_while_it_is_calibrated(
    end: str, source: Path, folder: Path, calibrated_by: MakeProgram
) -> None:
    options = calibrated_by(f"open({str(source)!r}, 'ab').write(b'x')\n{end}")
    with pytest.raises(SourceError, match=f"^{source} {CHANGED}$"):
        convert(source, folder / "m.gguf", options)
    assert not list(folder.iterdir())


def test_files_that_change_while_they_are_evaluated(
    make_model: MakeModel, text: Path, fake_bin: Path, tmp_path: Path
) -> None:
    base, first, second = make_model("base.gguf"), make_model("m.gguf"), make_model("fails.gguf")

    class Changing(EvaluationProgress):
        def __init__(self, path: Path) -> None:
            self.path = path

        def model_run(self, path: Path, number: int, count: int) -> None:
            with self.path.open("ab") as file:
                file.write(b"x")

    for models, changing in (([first], base), ([first], text), ([first, second], second)):
        with pytest.raises(SourceError, match=f"^{changing} {CHANGED}$"):
            evaluate(base, models, text, EvaluationOptions(llama_bin=fake_bin), Changing(changing))
        shutil.copy(make_model("again.gguf"), base)


def test_a_calibration_is_kept_from_the_moment_it_is_done(
    source: Path, folder: Path, tmp_path: Path, calibrated_by: MakeProgram, caplog: pytest.LogCaptureFixture
) -> None:
    kept()
    target, work, options = folder / "m.gguf", folder / "m.gguf.work", calibrated_by("")
    with pytest.raises(EoqError, match="something happened"):
        convert(source, target, options, Failing())
    assert list(folder.iterdir()) == [work]
    assert (work / "statistics.gguf").read_bytes() == (tmp_path / "ready.stats").read_bytes()
    assert kept() == [f"kept in {work}: the calibration; the same command with --resume goes on with it"]
    broken = calibrated_by("sys.exit('error: begun')")
    convert(source, target, replace(broken, resume=True))
    assert {path.name for path in folder.iterdir()} == {"m.gguf", "m.report.json"}
    convert(source, folder / "again.gguf", replace(calibrated_by(""), resume=True))
    assert [record.getMessage() for record in caplog.records] == [
        f"note: going on with the calibration of {work}",
        f"note: there is no unfinished work in {folder / 'again.gguf.work'} to go on with",
    ]
    assert (folder / "again.gguf").read_bytes() == target.read_bytes()


def test_a_calibration_outlives_what_the_same_command_would_meet_again(
    source: Path, folder: Path, tmp_path: Path, calibrated_by: MakeProgram
) -> None:
    kept()
    options = calibrated_by("")

    class Meets(ConversionProgress):
        def stage(self, name: str, total: int) -> None:
            if name == "quantising":
                raise ScaleOverflowError("too large")

    with pytest.raises(ScaleOverflowError):
        convert(source, folder / "m.gguf", options, Meets())
    (statistics,) = folder.iterdir()
    assert statistics.read_bytes() == (tmp_path / "ready.stats").read_bytes()
    assert kept() == [f"the calibration is kept in {statistics}: go on with --stats {statistics}"]
    convert(source, folder / "m.gguf", ConversionOptions(statistics=statistics, threads=1))


def test_a_checkpoint_of_a_calibration_is_gone_on_with(
    source: Path, folder: Path, tmp_path: Path, calibrated_by: MakeProgram
) -> None:
    """With as much memory; with another bound it begins anew, as the sums that are held at a time are others."""
    kept()
    target, work, told = folder / "m.gguf", folder / "m.gguf.work", tmp_path / "told"
    tell = f"open({str(told)!r}, 'w').write(' '.join(sys.argv))\nimport os\nout = sys.argv[sys.argv.index('-o') + 1]\n"
    with pytest.raises(CalibrationError):
        convert(source, target, calibrated_by(f"{tell}open(out + '.checkpoint', 'w').close()\nsys.exit('error: no')"))
    checkpoint = next(work.glob("calibration-*/*.checkpoint"))
    assert kept() == [
        f"kept in {work}: a checkpoint of the calibration; the same command with --resume goes on with it"
    ]
    found = "open(out + '.found', 'w').close() if os.path.exists(out + '.checkpoint') else None\nsys.exit('error: no')"
    again = replace(calibrated_by(tell + found), resume=True)
    with pytest.raises(CalibrationError):
        convert(source, target, again)
    assert checkpoint.with_name("statistics.gguf.found").exists() and "--resume" in told.read_text()
    less = replace(again, calibration=replace(again.calibration, memory_limit=1 << 20))
    with pytest.raises(CalibrationError):
        convert(source, target, less)
    assert not list(folder.iterdir()) and not checkpoint.exists()


def test_a_calibration_that_fails_leaves_nothing(source: Path, folder: Path, calibrated_by: MakeProgram) -> None:
    kept()
    options = calibrated_by("open(sys.argv[sys.argv.index('-o') + 1] + '.part', 'w')\nsys.exit('error: no')")
    with pytest.raises(EoqError, match=r"cannot be calibrated \(no\)"):
        convert(source, folder / "m.gguf", options)
    assert not list(folder.iterdir()) and not kept()


def test_what_a_killed_calibration_left_is_named(
    source: Path, folder: Path, calibrated_by: MakeProgram, caplog: pytest.LogCaptureFixture
) -> None:
    """llama-moments removes it, unless it is to go on from it."""
    statistics = folder / "s.stats"
    (folder / "s.stats.checkpoint").touch()
    convert(source, folder / "m.gguf", replace(calibrated_by(""), statistics=statistics))
    (record,) = caplog.records
    said = f"note: starting over removes what a killed run left in {folder}: s.stats.checkpoint"
    assert record.getMessage() == said
    calibration = replace(calibrated_by("").calibration, resume=True)
    statistics.unlink()
    convert(source, folder / "m.gguf", ConversionOptions(statistics=statistics, calibration=calibration, threads=1))
    assert len(caplog.records) == 1


def test_statistics_and_output_need_room_together(
    source: Path, folder: Path, calibrated_by: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = sum(layout.nbytes - 8 * layout.sets for layout in LAYOUTS)
    assert least_size((t.name, t.row_length, t.matrices) for t in TARGETS) == least
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": least})())
    with pytest.raises(TargetError, match=r"^the output m\.gguf and the statistics need 0\.0 MiB, but the disk"):
        convert(source, folder / "m.gguf", calibrated_by("sys.exit('error: begun')"))
    assert not list(folder.iterdir())


def test_folders_are_known_to_need_room_for_statistics_too(
    folder: Path, tmp_path: Path, calibrated_by: MakeProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_llama(tmp_path / "model")
    options = replace(calibrated_by(""), source=SourceAccess(llama_dir=stand_in(tmp_path, "raise SystemExit('begun')")))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    said = r"^the intermediate GGUF and the output m\.gguf and the statistics need"
    with pytest.raises(TargetError, match=said):
        convert(tmp_path / "model", folder / "m.gguf", options)
