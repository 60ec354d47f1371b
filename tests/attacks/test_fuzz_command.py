"""The fuzzer that is run by hand: what it finds in readers that are wrong, and that it goes on after that."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from eoq_formats.errors import EoqError
from tests.attacks import fuzz
from tests.attacks.targets import TARGETS, Target

Fuzz = Callable[[Callable[[bytes], None]], str]
COUNT = 60


@pytest.fixture
def fuzz_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Fuzz:
    """Fuzzes a reader that does this with its file, and returns what is printed."""

    def run(read: Callable[[bytes], None]) -> str:
        monkeypatch.setitem(TARGETS, "questions", Target([b"0123456789"], "q", lambda path: read(path.read_bytes())))
        words = ["--target", "questions", "--executions", str(COUNT), "--save", str(tmp_path / "found")]
        status = fuzz.main(words)
        said = capfd.readouterr().out
        assert (status == 0) == said.endswith(" 0 findings\n")
        assert f"questions: {COUNT} executions in " in said
        return said

    return run


def is_odd(data: bytes) -> bool:
    return sum(data) % 2 == 1


def test_errors_of_ours_are_no_findings(fuzz_with: Fuzz) -> None:
    def read(data: bytes) -> None:
        if is_odd(data):
            raise EoqError("it is odd")

    said = fuzz_with(read)
    taken = re.search(r", (\d+) files were taken", said)
    assert taken is not None and 0 < int(taken[1]) < COUNT


def test_others_are_told_once_and_their_file_is_saved(fuzz_with: Fuzz, tmp_path: Path) -> None:
    def read(data: bytes) -> None:
        if is_odd(data):
            raise KeyError("odd")

    said = fuzz_with(read)
    assert said.count("KeyError: 'odd'") == 1
    (saved,) = (tmp_path / "found").iterdir()
    assert is_odd(saved.read_bytes()) and str(saved) in said


@pytest.mark.parametrize(
    ("end", "said"),
    [(lambda: os.kill(os.getpid(), signal.SIGKILL), "ended with -9"), (signal.pause, "no end after 0 sec")],
)
def test_what_kills_the_process_or_hangs_is_a_finding_and_the_rest_is_run(
    end: Callable[[], object], said: str, fuzz_with: Fuzz, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "MOST_SECONDS", 0.2)

    def read(data: bytes) -> None:
        if sum(data) % 8 == 1:
            end()

    output = fuzz_with(read)
    saved = list((tmp_path / "found").iterdir())
    assert 0 < len(saved) == output.count(said) and all(sum(path.read_bytes()) % 8 == 1 for path in saved)


def test_a_number_makes_the_same_file_wherever_the_run_begins() -> None:
    target = TARGETS["GGUF"]
    here = Path()
    runs = [fuzz.Run("GGUF", target, 3, first, 10, here, here) for first in (0, 5)]
    assert runs[0].file(7) == runs[1].file(7) != runs[0].file(8)
