"""Several types by one calibration: each file is that of a conversion by itself; a card beside them; going on."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from gguf import GGUFReader, GGUFWriter

from converter import ConversionOptions, RoundingOptions, SourceAccess, TensorRecord, TypeOptions, convert
from converter.errors import OptionError, ResumeError
from converter.options import CalibrationOptions, CalibrationText
from converter.release import ReleasedFile, ReleaseProgress, make_release
from converter.report import ConversionReport
from eoq.convert import main
from eoq_formats.errors import EoqError
from gguf_files.output import SplitLimit
from output_files.claim import kept
from output_files.errors import TargetError
from tests.integration.converter.test_hf_folders import stand_in
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.samples.tiny_hf_model import write_tiny_llama
from tests.unit.converter.statistics.test_imatrix import write_imatrix
from tests.unit.evaluation.conftest import MakeModel, fake_bin, make_model, text

__all__ = ["fake_bin", "make_model", "text"]

TO_NEAREST = ConversionOptions(rounding=RoundingOptions("nearest", awq=False), threads=1)
TYPES = ("eoq3", "eoq4t", "EOQ4_64")
NAMES = ["Tiny-EOQ3.gguf", "Tiny-EOQ4T.gguf", "Tiny-EOQ4_64.gguf"]


class Told(ReleaseProgress):
    """What was written and what was kept; Ctrl-C at the second tensor of a file, if one is named."""

    def __init__(self, breaks_at: int | None = None) -> None:
        self.done: list[str] = []
        self.kept: list[str] = []
        self._breaks_at = breaks_at

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        if number == 2 and len(self.done) == self._breaks_at:
            raise KeyboardInterrupt

    def file_done(self, report: ConversionReport) -> None:
        self.done.append(report.files[0].name)

    def file_kept(self, file: ReleasedFile) -> None:
        self.kept.append(file.paths[0].name)


def card_of_origin(writer: GGUFWriter) -> None:
    writer.add_name("Tiny")
    writer.add_license("apache-2.0")
    writer.add_source_repo_url("https://huggingface.co/Org/Tiny-1B")
    writer.add_tags(["text-generation", "code"])
    writer.add_languages(["en", "no"])


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """No words of earlier tests."""
    kept()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", tiny_model(), card_of_origin)


@pytest.fixture
def measured(tmp_path: Path) -> ConversionOptions:
    """Statistics of one tensor."""
    sums = {"blk.0.attn_q.weight.in_sum2": np.linspace(1, 200, 128, dtype=np.float32)[None]}
    counts = {"blk.0.attn_q.weight.counts": np.full((1, 1), 200, np.float32)}
    imatrix = write_imatrix(tmp_path / "imatrix.gguf", {**sums, **counts})
    return ConversionOptions(statistics=imatrix, threads=1, allow_partial_statistics=True)


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def front_matter(card: Path) -> dict[str, object]:
    found: dict[str, object] = yaml.safe_load(card.read_text().split("---\n")[1])
    return found


def test_each_file_is_that_of_a_conversion_by_itself(
    source: Path, folder: Path, tmp_path: Path, measured: ConversionOptions
) -> None:
    told = Told()
    release = make_release(source, folder / "new", TYPES, replace(measured, quantized_by="Ann"), told)
    assert told.done == NAMES == [file.paths[0].name for file in release.files]
    for type_name, file in zip(TYPES, release.files, strict=True):
        alone = replace(measured, types=TypeOptions(type_name), quantized_by="Ann")
        assert convert(source, tmp_path / "one.gguf", alone).target.read_bytes() == file.paths[0].read_bytes()
    reports = [name.replace(".gguf", ".report.json") for name in NAMES]
    assert listed(folder / "new") == sorted([*NAMES, *reports, "README.md"])


def test_the_card(source: Path, folder: Path, measured: ConversionOptions, tmp_path: Path) -> None:
    release = make_release(source, folder, TYPES, replace(measured, quantized_by="Ann"))
    assert front_matter(release.card) == {
        "base_model": "Org/Tiny-1B",
        "base_model_relation": "quantized",
        "license": "apache-2.0",
        "language": ["en", "no"],
        "library_name": "gguf",
        "pipeline_tag": "text-generation",
        "quantized_by": "Ann",
        "tags": ["gguf", "llama.cpp", "eoq", "quantized", "code"],
    }
    text = release.card.read_text()
    for name, file in zip(NAMES, release.files, strict=True):
        assert f"| {name}" in text and f"{file.bits_per_weight:.3f}" in text
        assert f"{(folder / name).stat().st_size / 1e6:.1f}" in text
    assert "eoq convert MODEL FOLDER --type eoq3,eoq4t,eoq4_64" in text and "stock llama.cpp refuses" in text
    assert "Calibration: imatrix.gguf of llama-imatrix" in text and str(tmp_path) not in text and "KLD" not in text
    assert release.upload_command == f"hf upload USER/Tiny-GGUF {folder}"


def test_a_card_of_somebody_else_is_not_replaced(source: Path, folder: Path) -> None:
    release = make_release(source, folder, TYPES[:1], TO_NEAREST)
    again = make_release(source, folder, TYPES[:2], TO_NEAREST)  # ours is
    assert "EOQ4T" in again.card.read_text()
    before = listed(folder)
    for content in (release.card.read_text().replace("How to run", "Run"), "# mine\n", ""):
        release.card.write_text(content)
        with pytest.raises(TargetError, match=r"README.md is there and was not written by EOQ, or was edited since"):
            make_release(source, folder, ["eoq5"], TO_NEAREST)
        assert release.card.read_text() == content and listed(folder) == before


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ({"license": "mit"}, {"license": "mit"}),
        ({"license": "Llama 3 Community"}, {"license": "other", "license_name": "Llama 3 Community"}),
        (
            {"license": "other", "license.name": "own: 'x'", "license.link": "https://x.example/LICENSE"},
            {"license": "other", "license_name": "own: 'x'", "license_link": "https://x.example/LICENSE"},
        ),
        ({}, {}),
    ],
)
def test_the_licence_is_as_the_source_says(
    license: dict[str, str], expected: dict[str, str], folder: Path, tmp_path: Path
) -> None:
    def metadata(writer: GGUFWriter) -> None:
        for key, value in license.items():
            writer.add_string(f"general.{key}", value)

    source = write_gguf(tmp_path / "source.gguf", tiny_model(), metadata)
    found = front_matter(make_release(source, folder, ["eoq4"], TO_NEAREST).card)
    assert {key: value for key, value in found.items() if key.startswith("license")} == expected
    assert "base_model" not in found and "base_model_relation" not in found


@pytest.mark.parametrize("breaks_at", [0, 1, 2])
def test_it_goes_on_with_the_file_it_was_at(
    breaks_at: int, source: Path, folder: Path, tmp_path: Path, measured: ConversionOptions
) -> None:
    whole = make_release(source, tmp_path / "whole", TYPES, measured)
    with pytest.raises(KeyboardInterrupt):
        make_release(source, folder, TYPES, measured, Told(breaks_at))
    assert sorted(path.name for path in folder.glob("*.gguf")) == sorted(NAMES[:breaks_at])
    assert not (folder / "README.md").exists()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.gguf")}
    told = Told()
    release = make_release(source, folder, TYPES, replace(measured, resume=True), told)
    assert (told.kept, told.done) == (NAMES[:breaks_at], NAMES[breaks_at:])
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    for one, other in zip(whole.files, release.files, strict=True):
        assert one.paths[0].read_bytes() == other.paths[0].read_bytes()
    assert whole.card.read_text() == release.card.read_text() and not list(folder.glob("*.work"))


def test_a_finished_file_that_was_changed_is_made_again(source: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_release(source, folder, TYPES, TO_NEAREST, Told(2))
    (folder / NAMES[0]).write_bytes(b"other")
    told = Told()
    make_release(source, folder, TYPES, replace(TO_NEAREST, resume=True), told)
    assert (told.kept, told.done) == ([NAMES[1]], [NAMES[0], NAMES[2]])


def test_other_options_are_another_release(source: Path, folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        make_release(source, folder, TYPES, TO_NEAREST, Told(1))
    with pytest.raises(ResumeError, match="--type eoq3, eoq4t, eoq4_64 and not eoq3, eoq5"):
        make_release(source, folder, ["eoq3", "eoq5"], replace(TO_NEAREST, resume=True))


def test_one_intermediate_gguf_serves_all(folder: Path, tmp_path: Path, make_model: MakeModel) -> None:
    """A stand-in for llama.cpp's converter counts its calls."""
    write_tiny_llama(tmp_path / "hf")
    gguf, calls = make_model("made.gguf"), tmp_path / "calls"
    code = (
        f"import shutil, sys\nopen({str(calls)!r}, 'a').write('converted ')\n"
        f"shutil.copy({str(gguf)!r}, sys.argv[sys.argv.index('--outfile') + 1])\n"
    )
    access = SourceAccess(llama_dir=stand_in(tmp_path, code))
    options = replace(TO_NEAREST, source=access)
    with pytest.raises(KeyboardInterrupt):
        make_release(tmp_path / "hf", folder, TYPES, options, Told(1))
    assert (folder / "types.work" / "source.gguf").exists()
    (words,) = (word for word in kept() if "types.work" in word)
    assert "the intermediate GGUF and 1 finished type; the same command with --resume" in words
    release = make_release(tmp_path / "hf", folder, TYPES, replace(options, resume=True))
    assert calls.read_text() == "converted " and len(release.files) == 3
    assert listed(folder) == sorted([f"hf-{n[5:]}" for n in NAMES + reports()] + ["README.md"])


def reports() -> list[str]:
    return [name.replace(".gguf", ".report.json") for name in NAMES]


def test_splits(source: Path, folder: Path) -> None:
    options = replace(TO_NEAREST, split=SplitLimit(tensors=4))
    with pytest.raises(KeyboardInterrupt):
        make_release(source, folder, TYPES[:2], options, Told(1))
    release = make_release(source, folder, TYPES[:2], replace(options, resume=True))
    assert [path.name for path in release.files[0].paths] == [f"Tiny-EOQ3-0000{i}-of-00002.gguf" for i in (1, 2)]
    assert release.files[0].nbytes == sum(path.stat().st_size for path in release.files[0].paths)
    assert "Tiny-EOQ3-00001-of-00002.gguf and 1 more" in release.card.read_text()


def test_what_the_model_is_of_on_the_hub_is_told(tmp_path: Path, folder: Path) -> None:
    """By the folder of the hub's cache; the intermediate GGUF lies elsewhere."""
    commit = "0123456789" * 4
    snapshot = tmp_path / "models--org--Some" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    write_tiny_llama(snapshot)
    gguf = write_gguf(tmp_path / "made.gguf", tiny_model())
    code = f"import shutil, sys\nshutil.copy({str(gguf)!r}, sys.argv[sys.argv.index('--outfile') + 1])\n"
    options = replace(TO_NEAREST, source=SourceAccess(llama_dir=stand_in(tmp_path, code)))
    release = make_release(snapshot, folder, ["eoq4"], options)
    alone = convert(snapshot, folder / "alone.gguf", options)
    assert alone.target.read_bytes() == release.files[0].paths[0].read_bytes()
    fields = GGUFReader(alone.target).fields
    assert fields["general.source.repo_url"].contents() == "https://huggingface.co/org/Some"
    assert fields["general.source.url"].contents() == f"https://huggingface.co/org/Some/tree/{commit}"
    assert front_matter(release.card)["base_model"] == "org/Some" and release.name == "Some"


@pytest.mark.parametrize(
    ("types", "where", "message"),
    [
        (["eoq3", "EOQ3"], "r", "the type eoq3 is named twice"),
        (["eoq3", "q8_0"], "r", "unknown EOQ type 'q8_0'"),
        (["eoq3", ""], "r", "unknown EOQ type ''"),
        ([], "r", "no type is named"),
        (TYPES, "r.gguf", "several types go into a folder, and r.gguf names a file"),
        (TYPES, "file", "file is a file, and several types go into a folder"),
        (TYPES, "none/r", "none of the output does not exist"),
    ],
)
def test_what_cannot_be_is_refused_ahead(
    types: list[str], where: str, message: str, source: Path, folder: Path
) -> None:
    (folder / "file").write_text("x")
    with pytest.raises(EoqError, match=message):
        make_release(source, folder / where, types, TO_NEAREST)
    assert listed(folder) == ["file"]


def test_the_folder_of_the_model_is_not_written_to(tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "hf")
    before = listed(tmp_path / "hf")
    with pytest.raises(TargetError, match="is the folder of the model, which has a card of its own"):
        make_release(tmp_path / "hf", tmp_path / "hf", TYPES, TO_NEAREST)
    assert listed(tmp_path / "hf") == before


def test_a_model_of_that_name_is_not_written_over(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(folder / "Tiny-EOQ3.gguf", tiny_model(), card_of_origin)
    before = source.read_bytes()
    with pytest.raises(TargetError, match="would write over"):
        make_release(source, folder, TYPES, TO_NEAREST)
    assert source.read_bytes() == before and listed(folder) == ["Tiny-EOQ3.gguf"]


@pytest.fixture
def run(make_model: MakeModel, fake_bin: Path, folder: Path) -> Callable[..., int]:
    """The command line, with a stand-in for llama-perplexity."""
    model = make_model("base.gguf")

    def converted(*words: object) -> int:
        command = [model, folder / "r", "--type", "eoq3,eoq4", "--rtn", "--llama-bin", fake_bin, *words]
        return main([str(word) for word in command])

    return converted


def test_files_are_measured_for_their_card(
    run: Callable[..., int], folder: Path, text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--evaluate", text) == 0
    card = (folder / "r" / "README.md").read_text()
    assert " KLD |" in card and "0.10000 ± 0.00120" in card
    assert "20.0000 ± 1.5000" in card and "21.0000 ± 1.6000" in card
    assert "text.txt (sha256 " in card and "The base is the model in F16." in card and str(folder) not in card
    said = capsys.readouterr().out
    assert "mean KLD 0.10000" in said and f"  hf upload USER/base-GGUF {folder / 'r'}\n" in said
    assert "note: the card names no base_model" in said


def test_an_evaluation_that_fails_leaves_the_files(
    run: Callable[..., int], folder: Path, text: Path, fake_bin: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = fake_bin / "llama-perplexity"
    shutil.move(program, fake_bin / "kept")
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o755)
    assert run("--evaluate", text) == 1
    assert "2 finished types; the same command with --resume goes on with it" in capsys.readouterr().err
    shutil.move(fake_bin / "kept", program)
    assert run("--evaluate", text, "--resume") == 0
    assert capsys.readouterr().out.count("is kept from the run that broke off") == 2


def test_a_text_of_the_calibration_measures_nothing(source: Path, folder: Path, text: Path, fake_bin: Path) -> None:
    copy = text.with_name("copy.txt")
    shutil.copy(text, copy)
    calibration = CalibrationOptions(texts=(CalibrationText(text),), llama_bin=fake_bin)
    options = ConversionOptions(calibration=calibration, threads=1)
    with pytest.raises(OptionError, match=r"copy.txt is one of the calibration"):
        make_release(source, folder / "r", TYPES, options, text=copy)
    assert not list(folder.iterdir())


def test_a_dry_run_names_the_files(run: Callable[..., int], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--dry-run") == 0
    said = capsys.readouterr().out
    assert "base-EOQ3.gguf:" in said and "base-EOQ4.gguf:" in said and said.count("file: ") == 2
    assert not list(folder.iterdir())
