"""Pace, plain lines where there is no terminal, and the log for programs."""

import io
import json
import os
import signal
import sys
import threading
from argparse import Namespace
from pathlib import Path

import pytest

from output_files.errors import TargetError
from terminal.bar import QUIET_SECONDS, StageBar
from terminal.event_log import EventLog
from terminal.pace import Pace
from terminal.tool import run_tool


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr("time.monotonic", lambda: found.now)
    return found


def test_time_left_by_work(clock: Clock) -> None:
    pace = Pace(100)
    pace.skip(40)
    known = [pace.seconds_left]  # an earlier run's work says nothing of the pace
    clock.now += 10
    pace.advance(20)
    known.append(pace.seconds_left)
    pace.advance(40)
    known.append(pace.seconds_left)
    assert known == [None, pytest.approx(40 * 10 / 20), 0]
    assert Pace(None).seconds_left is None


def test_a_total_that_comes_later_starts_the_clock(clock: Clock) -> None:
    pace = Pace(None)
    clock.now += 500  # a model is loaded
    pace.set(0, 10)
    clock.now += 6
    pace.set(3, 10)
    assert pace.seconds_left == pytest.approx(7 * 6 / 3)


def test_plain_lines_at_a_bearable_rate(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with StageBar(stderr=False) as bar:
        bar.begin("quantising", 1000)
        for _ in range(500):
            clock.now += 1
            bar.advance(1)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 1 + 500 // QUIET_SECONDS
        assert lines[:2] == ["quantising …", "quantising: 3 %, 0:16:10 left"]
        clock.now += QUIET_SECONDS - 1
        bar.print("a tensor")
        clock.now += QUIET_SECONDS - 1
        bar.advance(1)
        assert capsys.readouterr().out == "a tensor\n", "whoever hears of tensors needs no more"


def test_plain_lines_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe is not written to in blocks of kilobytes."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BufferedWriter(written), encoding="utf-8"))
    with StageBar(stderr=False) as bar:
        bar.begin("quantising", 10)
    assert written.getvalue().decode() == "quantising …\n"


def records(log: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_progress_is_told_once_a_second_and_when_done(clock: Clock, tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "log"), "convert")
    log.open()
    log.stage("quantising", 1000)
    for _ in range(1000):
        clock.now += 0.01
        log.advance(1)
    log.ended()
    told = [record["done"] for record in records(tmp_path / "log") if record["event"] == "progress"]
    assert told[0] == 1 and told[-1] == 1000 and 10 <= len(told) <= 12


def test_without_a_place_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    log = EventLog(None, "convert")
    log.open()
    log.stage("a", 1)
    log.advance(1)
    log.ended()
    assert not log.failed("x", 1) and capsys.readouterr() == ("", "")


@pytest.mark.parametrize("content", ["GGUF", "{}", '{"a": 1}\n', "[" * 10_000, '{"event": "x", "time": "y"}\n'])
def test_what_is_no_log_is_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "log"
    file.write_text(content)
    with pytest.raises(TargetError, match="is no log of an earlier run; give --log-json another name"):
        EventLog(str(file), "convert").open()
    assert file.read_text() == content


def test_places_that_cannot_be(tmp_path: Path) -> None:
    for place, outputs, message in (
        (tmp_path / "none" / "log", [], "does not exist"),
        (tmp_path, [], "is a folder"),
        (tmp_path / "m.gguf", [tmp_path / "m.gguf"], "two outputs"),
    ):
        with pytest.raises(TargetError, match=message):
            EventLog(str(place), "convert").open(outputs)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
def test_a_pipe_is_written_to_and_its_end_does_not_end_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)

    def read_a_line() -> None:
        with pipe.open() as reader:
            heard.append(json.loads(reader.readline())["event"])

    reader = threading.Thread(target=read_a_line)
    reader.start()
    log = EventLog(str(pipe), "convert")
    log.open()
    reader.join()
    log.stage("a", 1)
    log.advance(1)
    log.ended()
    assert heard == ["start"]
    assert capsys.readouterr().err == f"warning: cannot write {pipe} any more: Broken pipe\n"


def test_the_last_record_of_signals_and_faults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run_with(log: EventLog, *, fault: bool) -> int:
        def run(arguments: Namespace) -> None:
            log.open()
            log.stage("quantising", 3)
            if fault:
                raise ValueError("a slip")
            signal.raise_signal(signal.SIGTERM)

        return run_tool(run, Namespace(), log=log)

    place = tmp_path / "log"
    assert run_with(EventLog(str(place), "convert"), fault=False) == 143
    last = records(place)[-1]
    assert (last["event"], last["stage"], last["status"]) == ("error", "quantising", 143)
    assert last["error"] == "interrupted; nothing was written"
    assert capsys.readouterr().err == f"error: {last['error']}\n"
    assert run_with(EventLog("-", "convert"), fault=False) == 143
    assert json.loads(capsys.readouterr().err.splitlines()[-1])["status"] == 143
    with pytest.raises(ValueError, match="a slip"):
        run_with(EventLog(str(place), "convert"), fault=True)
    assert records(place)[-1]["error"] == "a fault of this program: ValueError: a slip"
