"""Pipes, devices and folders where a file is asked for: refused at once, whatever the option."""

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from eoq import convert, eval, mmlu, plan, stats
from tests.attacks.statistics_files import imatrix, model
from tests.attacks.tool import Main, assert_refused, assert_refused_within_limits


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def socket(path: Path) -> None:
    os.mknod(path, 0o140644)  # S_IFSOCK


KINDS: dict[str, tuple[Callable[[Path], None], str]] = {
    "pipe": (pipe, "it is a pipe or a device"),
    "device": (device, "it is a pipe or a device"),
    "folder": (folder, "it is a folder"),
    "socket": (socket, "it is a pipe or a device"),
}
EVERY_KIND = pytest.mark.parametrize(("make", "message"), KINDS.values(), ids=KINDS.keys())

USES: dict[str, tuple[Main, str]] = {
    "plan": (convert.main, "m.gguf out.gguf --rtn --plan X"),
    "plan in TOML": (convert.main, "m.gguf out.gguf --rtn --plan X.toml"),
    "statistics": (convert.main, "m.gguf out.gguf --stats X"),
    "imatrix": (convert.main, "m.gguf out.gguf --imatrix X"),
    "text": (convert.main, "m.gguf out.gguf --calib X"),
    "text with a weight": (convert.main, "m.gguf out.gguf --calib X:2"),
    "text of collect": (stats.main, "collect m.gguf out.stats --calib X"),
    "show": (stats.main, "show X"),
    "compare": (stats.main, "compare i.gguf X"),
    "merge": (stats.main, "merge X X out.stats"),
    "mix": (stats.main, "mix X:2 out.stats"),
    "statistics of a plan": (plan.main, "m.gguf --target-bpw 5 --stats X"),
    "data set": (plan.main, "config.json --planner fastewq --dataset X"),
    "configuration": (plan.main, "X.json --planner fastewq"),
    "text to evaluate on": (eval.main, "--base m.gguf --text X m.gguf"),
    "model to evaluate": (eval.main, "--base X --text text.txt m.gguf"),
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with all that is right."""
    (tmp_path / "m.gguf").write_bytes(model())
    (tmp_path / "i.gguf").write_bytes(imatrix())
    (tmp_path / "text.txt").write_text("a text")
    (tmp_path / "config.json").write_text(
        '{"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 64, '
        '"num_hidden_layers": 2}'
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


@EVERY_KIND
@pytest.mark.parametrize(("main", "words"), USES.values(), ids=USES.keys())
def test_files_that_are_none(
    main: Main,
    words: str,
    make: Callable[[Path], None],
    message: str,
    files: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if words == USES["configuration"][1] and make is folder:
        message = "config.json cannot be read"  # a folder is looked into
    for name in ("X", "X.toml", "X.json"):
        make(files / name)
    assert_refused(main, capsys, message, *words.split())


@EVERY_KIND
@pytest.mark.parametrize("main", [convert.main, plan.main], ids=["convert", "plan"])
def test_models_that_are_no_files(
    main: Main, make: Callable[[Path], None], message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(files / "X")
    words = ["X", "out.gguf", "--rtn"] if main is convert.main else ["X", "--target-bpw", "5"]
    assert_refused(main, capsys, "is empty" if make is folder else message, *words)


@EVERY_KIND
def test_questions_that_are_no_files(
    make: Callable[[Path], None], message: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(files / "X")
    assert_refused(mmlu.main, capsys, "holds no CSV files" if make is folder else message, "X")


PARTS = ("config.json", "model.safetensors", "model.safetensors.index.json", "tokenizer.json", "tokenizer.model")


@pytest.mark.parametrize(
    ("name", "kind"),
    # to open a folder fails at once
    [(name, kind) for name in PARTS for kind in KINDS if kind != "folder" or not name.startswith("tokenizer")],
)
def test_parts_of_a_model_that_are_no_files(
    name: str, kind: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """llama.cpp's converter opens whatever has the right name."""
    make, message = KINDS[kind]
    parts = files / "model"
    parts.mkdir()
    head = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    (parts / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (parts / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(4))
    (parts / name).unlink(missing_ok=True)
    make(parts / name)
    assert_refused(convert.main, capsys, message, parts, "out.gguf", "--rtn")


def test_a_pipe_is_not_waited_for(files: Path) -> None:
    """In a process of its own, which would use no time of the processor: pytest's limit is what would end it."""
    pipe(files / "X")
    assert_refused_within_limits("it is a pipe", "convert_eoq.py", "m.gguf", "out.gguf", "--stats", "X")


def test_a_sparse_file_is_not_read_whole(files: Path) -> None:
    with (files / "X.json").open("wb") as file:
        file.truncate(2**35)
    for script, words in (
        ("convert_eoq.py", ["m.gguf", "out.gguf", "--rtn", "--plan", "X.json"]),
        ("convert_eoq.py", ["m.gguf", "out.gguf", "--calib", "X.json"]),
        ("plan_eoq.py", ["X.json", "--planner", "fastewq"]),
    ):
        assert_refused_within_limits("give a shorter file", script, *words)


def test_names_of_files_in_another_encoding(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Paths have any bytes, and results are UTF-8."""
    odd = os.fsdecode(b"\xff\n\x1b")
    for name in ("m.gguf", "i.gguf"):
        (files / name).rename(files / (odd + name))
    words = [odd + "m.gguf", odd + "out.gguf", "--imatrix", odd + "i.gguf", "--type", "eoq4"]
    assert convert.main(words) == 0
    assert convert.main([*words[:2], "--rtn", "--table"]) == 0
    assert plan.main([odd + "m.gguf", "--target-bpw", "5", "--json", odd + "p.json"]) == 0
    assert convert.main([odd + "m.gguf", odd + "out.gguf", "--rtn", "--plan", odd + "p.json", "--dry-run"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and all(line.isprintable() for line in said.out.splitlines())
    assert_refused(convert.main, capsys, r"\udcff\n\x1bx.gguf does not exist", odd + "x.gguf", "out.gguf", "--rtn")
