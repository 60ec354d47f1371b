"""Conversions that broke off and are gone on with: what is the same, what is refused, and what is made again."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from converter import ConversionOptions, ConversionProgress, RoundingOptions, TensorRecord, TypeOptions, convert
from converter.errors import OptionError, ResumeError
from eoq_formats.errors import EoqError
from gguf_files.output import SplitLimit
from gguf_files.source import open_gguf
from output_files.claim import kept
from output_files.errors import TargetError
from tests.integration.converter.test_hf_folders import stand_in
from tests.samples.gguf_samples import random_weights, tiny_model, write_gguf
from tests.samples.moments_samples import model, write_statistics
from tests.samples.tiny_hf_model import write_tiny_llama

TO_NEAREST = ConversionOptions(TypeOptions("eoq3"), RoundingOptions("nearest", awq=False))
RESUMED = replace(TO_NEAREST, resume=True)


class BreaksOff(ConversionProgress):
    """Ctrl-C once so many tensors are written."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.made: list[str] = []
        self.kept: list[str] = []

    def tensors_kept(self, records: Sequence[TensorRecord], count: int) -> None:
        self.kept = [record.plan.tensor.name for record in records]

    def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
        self.made.append(record.plan.tensor.name)
        if number == self.after:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    """No words of earlier tests."""
    kept()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", tiny_model())


@pytest.fixture
def work(source: Path, folder: Path) -> Path:
    """What is left of a conversion to m.gguf after four of seven tensors."""
    with pytest.raises(KeyboardInterrupt):
        convert(source, folder / "m.gguf", TO_NEAREST, BreaksOff(4))
    kept()
    return folder / "m.gguf.work"


def expected(source: Path, tmp_path: Path, options: ConversionOptions = TO_NEAREST) -> bytes:
    return convert(source, tmp_path / "expected.gguf", options).target.read_bytes()


def test_only_what_is_lacking_is_made(source: Path, work: Path, folder: Path, tmp_path: Path) -> None:
    again = BreaksOff(99)
    report = convert(source, folder / "m.gguf", RESUMED, again)
    names = list(tiny_model())
    assert again.kept == names[:4] and again.made == names[4:]
    assert report.target.read_bytes() == expected(source, tmp_path)
    whole = convert(source, tmp_path / "whole.gguf", TO_NEAREST)
    assert [replace(r, seconds=0) for r in report.records] == [replace(r, seconds=0) for r in whole.records]
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


def test_a_tensor_that_was_damaged_is_made_again(source: Path, work: Path, folder: Path, tmp_path: Path) -> None:
    """And what the journal does not tell, or tells by halves."""
    part = work / "output-00001.gguf"
    data = bytearray(part.read_bytes())
    whole = expected(source, tmp_path)
    finished = open_gguf(tmp_path / "expected.gguf")
    second = finished.tensors[1]
    data[whole.index(finished.rows(second, 0, second.rows).tobytes()) + 5] ^= 1
    part.write_bytes(data)
    journal = work / "tensors.jsonl"
    lines = journal.read_text().splitlines()
    journal.write_text("\n".join([*lines[:3], '{"name": "nothing", "crc32": 1, "figures": {}}', lines[3][:-9]]))
    again = BreaksOff(99)
    convert(source, folder / "m.gguf", RESUMED, again)
    names = list(tiny_model())
    assert again.kept == [names[0], names[2]] and again.made == [names[1], *names[3:]]
    assert (folder / "m.gguf").read_bytes() == whole


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": 3}\n', b"\xff\n", b'{"name": "output.weight"}\n' * 2])
def test_a_journal_of_nonsense_is_no_obstacle(
    content: bytes, source: Path, work: Path, folder: Path, tmp_path: Path
) -> None:
    (work / "tensors.jsonl").write_bytes(content)
    convert(source, folder / "m.gguf", RESUMED)
    assert (folder / "m.gguf").read_bytes() == expected(source, tmp_path)


def test_what_is_lost_is_made_again(source: Path, work: Path, folder: Path, tmp_path: Path) -> None:
    (work / "output-00001.gguf").unlink()
    convert(source, folder / "m.gguf", RESUMED)
    assert (folder / "m.gguf").read_bytes() == expected(source, tmp_path) and not work.exists()


Change = Callable[[Path, ConversionOptions], ConversionOptions]


def _touch(source: Path, options: ConversionOptions) -> ConversionOptions:
    os.utime(source, ns=(1, 1))
    return options


def _other_weights(source: Path, options: ConversionOptions) -> ConversionOptions:
    time = source.stat().st_mtime_ns
    data = bytearray(source.read_bytes())
    data[-1] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(time, time))
    return options


CHANGES: dict[str, tuple[Change, str]] = {
    "source touched": (_touch, r"source.gguf [\d,]+ bytes, changed 20.* and not [\d,]+ bytes, changed 1970"),
    "source written": (_other_weights, r"source.gguf .*CRC-32 \w{8} and not .* CRC-32 \w{8}; start"),
    "type": (lambda source, o: replace(o, types=TypeOptions("eoq4")), "--type eoq3 and not eoq4; start"),
    "types": (
        lambda source, o: replace(o, types=TypeOptions("eoq3", tensor_types=("a=eoq4", "b=eoq5"))),
        "--tensor-type not given and not a=eoq4, b=eoq5; start",
    ),
    "rounding": (lambda source, o: replace(o, rounding=RoundingOptions()), "--rounding not given and not feedback"),
    "splits": (
        lambda source, o: replace(o, split=SplitLimit(tensors=3)),
        "splits of at most not given and not 3 tensors; start",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_conversion_is_refused_by_name(name: str, source: Path, work: Path, folder: Path) -> None:
    change, words = CHANGES[name]
    before = {path: path.read_bytes() for path in work.iterdir()}
    said = f"^{work} is of a conversion with {words}.* as it was, or leave --resume out to start anew$"
    with pytest.raises(ResumeError, match=said):
        convert(source, folder / "m.gguf", change(source, RESUMED))
    assert {path: path.read_bytes() for path in work.iterdir()} == before and not kept()


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"conversion": 3}', b'{"conversion": {"--type": []}}'])
def test_work_that_nobody_knows_the_facts_of_is_refused(
    content: bytes | None, source: Path, work: Path, folder: Path
) -> None:
    facts = work / "facts.json"
    facts.unlink()
    if content is not None:
        facts.write_bytes(content)
    with pytest.raises(ResumeError, match=r"--type not given and not eoq3, .* leave --resume out to start anew"):
        convert(source, folder / "m.gguf", RESUMED)
    convert(source, folder / "m.gguf", TO_NEAREST)
    assert not work.exists()


def test_other_threads_go_on_where_they_make_no_difference(
    source: Path, work: Path, folder: Path, tmp_path: Path
) -> None:
    convert(source, folder / "m.gguf", replace(RESUMED, threads=3))
    assert (folder / "m.gguf").read_bytes() == expected(source, tmp_path)


def test_other_statistics_are_refused(folder: Path, tmp_path: Path) -> None:
    source, statistics = model(tmp_path), tmp_path / "s.stats"
    options = ConversionOptions(statistics=statistics, threads=1, resume=True)
    write_statistics(statistics, source, 1)
    with pytest.raises(KeyboardInterrupt):
        convert(source.paths[0], folder / "m.gguf", options, BreaksOff(1))
    shutil.copy(statistics, tmp_path / "kept")
    before = statistics.stat()
    write_statistics(statistics, source, 2)
    with pytest.raises(ResumeError, match=r"of a conversion with the statistics s.stats .* and not "):
        convert(source.paths[0], folder / "m.gguf", options)
    shutil.copy(tmp_path / "kept", statistics)
    os.utime(statistics, ns=(before.st_atime_ns, before.st_mtime_ns))
    convert(source.paths[0], folder / "m.gguf", options)
    assert (folder / "m.gguf").read_bytes() == expected(source.paths[0], tmp_path, replace(options, resume=False))


def test_without_resume_it_starts_anew(
    source: Path, work: Path, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    size = sum(path.stat().st_size for path in work.iterdir() if path.name != "facts.json") / 2**20
    again = BreaksOff(99)
    convert(source, folder / "m.gguf", TO_NEAREST, again)
    said = f"note: removed what an unfinished run left in {work} ({size:.1f} MiB)"
    assert again.made == list(tiny_model()) and not work.exists()
    assert caplog.messages == [f"{said}; --resume would have gone on with it"]
    caplog.clear()
    with pytest.raises(KeyboardInterrupt):
        convert(source, folder / "m.gguf", TO_NEAREST, BreaksOff(4))
    convert(source, folder / "m.gguf", replace(TO_NEAREST, types=TypeOptions("eoq4")))
    assert caplog.messages == [said]


def test_what_is_not_of_a_conversion_stays(source: Path, folder: Path, tmp_path: Path) -> None:
    work = folder / "m.gguf.work"
    work.mkdir()
    (work / "mine").touch()
    with pytest.raises(TargetError, match=f"^{work} is in the way of unfinished work: it holds mine; move it"):
        convert(source, folder / "m.gguf", TO_NEAREST)
    assert (work / "mine").exists()
    shutil.rmtree(work)
    work.symlink_to(tmp_path)
    with pytest.raises(TargetError, match="it is a link"):
        convert(source, folder / "m.gguf", RESUMED)
    assert source.exists() and work.is_symlink()


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_while_files_get_their_names(moved: int, source: Path, folder: Path, tmp_path: Path) -> None:
    """Of three splits and an older set of them, so many had their new names."""
    options = replace(TO_NEAREST, split=SplitLimit(tensors=3))
    target = folder / "m.gguf"
    wanted = [path.read_bytes() for path in convert(source, tmp_path / "m.gguf", options).files]
    for path in (folder / f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)):
        path.write_bytes(b"old")
    real = Path.replace
    done: list[Path] = []

    def killed(self: Path, other: Path) -> Path:
        if ".work" in str(self.parent) and self.suffix == ".gguf":
            if len(done) == moved:
                raise KeyboardInterrupt
            done.append(other)
        return real(self, other)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", killed)
        convert(source, target, options, BreaksOff(0))
        raise KeyboardInterrupt
    assert [path.name[2:7] for path in done] == ["00002", "00003", "00001"][:moved]
    first = folder / "m-00001-of-00003.gguf"
    assert moved == 3 or not first.exists()  # nothing leads to a mixture
    if moved < 3:
        again = BreaksOff(99)
        report = convert(source, target, replace(options, resume=True), again)
        assert not again.made and report.files[0] == first
    assert [path.read_bytes() for path in sorted(folder.glob("*.gguf"))] == wanted


@pytest.mark.parametrize("work_dir", [False, True])
def test_an_intermediate_gguf_is_kept(work_dir: bool, folder: Path, tmp_path: Path) -> None:
    """Made by a stand-in for llama.cpp's converter, which is not run again."""
    write_tiny_llama(tmp_path / "model")
    gguf = write_gguf(tmp_path / "made.gguf", tiny_model())
    code = f"import shutil, sys\nshutil.copy({str(gguf)!r}, sys.argv[sys.argv.index('--outfile') + 1])\n"
    tree = stand_in(tmp_path, code)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    access = replace(TO_NEAREST.source, llama_dir=tree, work_dir=elsewhere if work_dir else None)
    options = replace(RESUMED, source=access)
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "model", folder / "m.gguf", options, BreaksOff(2))
    (words,) = kept()
    assert ": the intermediate GGUF and 2 finished tensors; the same command" in words
    assert bool(list(elsewhere.rglob("source.gguf"))) == work_dir
    (tree / "convert_hf_to_gguf.py").write_text("raise SystemExit('begun')")
    again = BreaksOff(99)
    convert(tmp_path / "model", folder / "m.gguf", options, again)
    assert len(again.made) == 5 and not list(elsewhere.iterdir())
    assert (folder / "m.gguf").read_bytes() == expected(gguf, tmp_path)


def test_what_an_earlier_work_folder_elsewhere_holds_is_removed(folder: Path, tmp_path: Path) -> None:
    write_tiny_llama(tmp_path / "model")
    gguf = write_gguf(tmp_path / "made.gguf", tiny_model())
    code = f"import shutil, sys\nshutil.copy({str(gguf)!r}, sys.argv[sys.argv.index('--outfile') + 1])\n"
    tree = stand_in(tmp_path, code)
    (tmp_path / "elsewhere").mkdir()
    options = replace(TO_NEAREST, source=replace(TO_NEAREST.source, llama_dir=tree, work_dir=tmp_path / "elsewhere"))
    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "model", folder / "m.gguf", options, BreaksOff(2))
    here = replace(options, source=replace(options.source, work_dir=None))
    with pytest.raises(ResumeError, match=f"--work-dir {tmp_path / 'elsewhere'} and not left out"):
        convert(tmp_path / "model", folder / "m.gguf", replace(here, resume=True))
    convert(tmp_path / "model", folder / "m.gguf", here)
    assert not list((tmp_path / "elsewhere").iterdir())
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


def test_what_would_be_met_again_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    """No --resume gets past it: the options, or the model, have to be others."""
    tensors = tiny_model() | {"blk.0.ffn_down.weight": random_weights(5, 128, 256) * float("nan")}
    source = write_gguf(tmp_path / "source.gguf", tensors)
    with pytest.raises(EoqError, match="has a NaN"):
        convert(source, folder / "m.gguf", TO_NEAREST)
    with pytest.raises(OptionError):
        convert(source, folder / "m.gguf", replace(TO_NEAREST, types=TypeOptions(tensor_types=("nothing=eoq3",))))
    assert not list(folder.iterdir()) and not kept()
