"""The command line: what it prints, and how it fails."""

import json
import re
import signal
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as T

from eoq_formats.gguf_registration import register
from tests.integration.converter.command_line import assert_refused, run_and_signal, run_tool
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf

register()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", tiny_model())


def test_a_conversion_prints_a_line_a_tensor_and_a_summary(source: Path, folder: Path) -> None:
    target = folder / "m.gguf"
    done = run_tool(source, target, "--type", "EOQ5", "--tensor-type", "ffn_down=q8_0", "--threads", "2")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    (line,) = [line for line in lines if "blk.0.attn_q.weight" in line]
    for part in ("[4/7]", "[128, 128]", "eoq5", "5.125 bpw", "-26.", " dB", " s"):
        assert part in line
    assert any(line.startswith(f"{target}: ") and "bits a weight" in line for line in lines)
    assert "\x1b" not in done.stdout
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(target).tensors}
    assert types["blk.0.ffn_down.weight"] == "Q8_0" and types["blk.0.attn_q.weight"] == "EOQ5"


def test_quiet_prints_nothing_and_a_rerun_replaces_the_file(source: Path, folder: Path) -> None:
    target = folder / "m.gguf"
    target.write_bytes(b"old")
    done = run_tool(source, target, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert target.read_bytes()[:4] == b"GGUF"
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--type", "eoq9"], "unknown EOQ type 'eoq9'; choose one of eoq2"),
        (["--output-type", "q4_k"], "unknown tensor type 'q4_k'"),
        (["--tensor-type", "nonsense=eoq5"], "nonsense=eoq5 matches no tensor"),
        (["--tensor-type", "attn_q"], "not of the form REGEX=TYPE"),
        (["--tensor-type", "attn_q=tq1_0"], "blk.0.attn_q.weight has rows of 128"),
        (["--threads", "0"], "threads"),
        (["--split-max-size", "8"], "--split-max-size: '8' is no size; write it like 8GiB or 700MB"),
        (["--split-max-size", "0G"], "'0G' is no size"),
        (["--split-max-size=-1G"], "'-1G' is no size"),
        (["--split-max-size", "9999999999G"], "'9999999999G' is no size"),
        (["--split-max-tensors", "0"], "--split-max-tensors must be at least 1, not 0"),
    ],
)
def test_bad_options(arguments: list[str], message: str, source: Path, folder: Path) -> None:
    assert_refused(run_tool(source, folder / "m.gguf", *arguments), message)
    assert not list(folder.iterdir())


def test_bad_sources(source: Path, folder: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(source.read_bytes()[:-5000])
    garbage = tmp_path / "garbage.gguf"
    garbage.write_bytes(b"GGUF" + bytes(range(256)))
    quantised = write_gguf(tmp_path / "q.gguf", {"output.weight": as_type(random_weights(1, 4, 128), T.Q8_0)})
    tensors = tiny_model()
    tensors["blk.0.attn_q.weight"][3, 7] = np.inf
    infinite = write_gguf(tmp_path / "inf.gguf", tensors)
    for path, message in [
        (tmp_path / "missing", f"{tmp_path / 'missing'} does not exist"),
        (empty, f"the folder {empty} is empty"),
        (tmp_path, "no config.json"),
        (cut, "truncated"),
        (garbage, "cannot be read as GGUF"),
        (quantised, "output.weight is quantised already (q8_0)"),
        (infinite, "tensor blk.0.attn_q.weight has a NaN or an infinity in row 3"),
    ]:
        assert_refused(run_tool(path, folder / "m.gguf"), message)
        assert not list(folder.iterdir())


def test_bad_targets(source: Path, folder: Path) -> None:
    before = source.read_bytes()
    (folder / "link.gguf").symlink_to(source)
    (folder / "hard.gguf").hardlink_to(source)
    for target, message in [
        (source, f"would write over {source}, which is read"),
        (folder / "link.gguf", f"would write over {source}, which is read"),
        (folder / "hard.gguf", f"would write over {source}, which is read"),
        (folder / "missing" / "m.gguf", "does not exist"),
        (folder, "is a folder"),
        (Path("/proc/m.gguf"), "cannot write in /proc"),
    ]:
        assert_refused(run_tool(source, target), message)
    assert source.read_bytes() == before and len(list(folder.iterdir())) == 2


def test_splits_are_told(source: Path, folder: Path) -> None:
    options = ("--split-max-size", "50K", "--split-max-tensors", "5")
    planned = run_tool(source, folder / "m.gguf", *options, "--dry-run")
    assert planned.returncode == 0 and not list(folder.iterdir())
    done = run_tool(source, folder / "m.gguf", *options)
    assert (done.returncode, done.stderr) == (0, "")
    names = sorted(path.name for path in folder.glob("*.gguf"))
    assert names == [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert [line.partition(":")[0] for line in planned.stdout.splitlines()[-3:]] == names
    assert f"{folder / names[0]}: " in done.stdout and f"splits: 3 files, {names[0]} to {names[2]}" in done.stdout
    assert json.loads((folder / "m.report.json").read_text())["files"] == names


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_an_interrupted_conversion_is_gone_on_with(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    weights = random_weights(1, 1024, 2048)
    source = write_gguf(tmp_path / "large.gguf", {f"blk.{i}.ffn_up.weight": weights for i in range(48)})
    target, work = folder / "m.gguf", folder / "m.gguf.work"
    target.write_bytes(b"old")
    status, errors = run_and_signal(lambda line: "[ 2/48]" in line, number, source, target, "--threads", "1")
    words = (
        rf"error: interrupted; kept in {work}: (\d+) finished tensors; the same command with --resume goes on with it"
    )
    said = re.fullmatch(words + "\n", errors)
    assert status == 128 + number and said and 2 <= int(said[1]) < 48, errors
    assert sorted(folder.iterdir()) == [target, work] and target.read_bytes() == b"old"
    done = run_tool(source, target, "--threads", "1", "--resume")
    assert (done.returncode, done.stderr) == (0, f"note: going on with {said[1]} finished tensors of {work}\n")
    assert f"[{said[1]}/48] tensors are kept from the run that broke off" in done.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]
    assert run_tool(source, folder / "again.gguf").returncode == 0
    assert target.read_bytes() == (folder / "again.gguf").read_bytes()


def test_an_interruption_before_the_first_tensor_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    source = write_gguf(tmp_path / "large.gguf", {"blk.0.ffn_up.weight": random_weights(1, 16, 1024, 2048)})
    target = folder / "m.gguf"
    target.write_bytes(b"old")
    status, errors = run_and_signal(lambda line: "quantising" in line, signal.SIGINT, source, target, "--threads", "1")
    assert (status, errors) == (130, "error: interrupted; nothing was written\n")
    assert list(folder.iterdir()) == [target] and target.read_bytes() == b"old"
