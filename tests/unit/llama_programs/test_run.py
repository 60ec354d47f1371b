"""Programs that are started: none outlives its caller, and one that fails says why."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from llama_programs import bound_launcher, run
from llama_programs.errors import NoProgramError, ProgramFailed
from llama_programs.find import find_program
from llama_programs.run import ending, listen, output_of, running, timed_run
from tests.samples.waiting import LONGEST

ROOT = Path(__file__).resolve().parents[3]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@contextmanager
def ends(pids: Path) -> Iterator[None]:
    """Whatever wrote its process ids into the file is gone after the context."""
    yield
    assert pids.exists()
    deadline = time.monotonic() + LONGEST
    for pid in map(int, pids.read_text().split()):
        while Path(f"/proc/{pid}/stat").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
            assert time.monotonic() < deadline, f"process {pid} goes on"
            time.sleep(0.02)


def parent_and_child(pids: Path) -> list[str]:
    """A program that starts another one, and both sleep."""
    child = "import time; time.sleep(300)"
    return python(
        "import os, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"open({str(pids) + '.part'!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids) + '.part'!r}, {str(pids)!r})\n"
        "print('ready', flush=True)\ntime.sleep(300)\n"
    )


def test_a_program_ends_with_its_context_and_so_do_those_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with ends(pids), pytest.raises(KeyboardInterrupt), running(parent_and_child(pids)):
        while not pids.exists():
            time.sleep(0.02)
        raise KeyboardInterrupt


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere children are not told")
def test_a_program_ends_when_its_caller_is_killed(tmp_path: Path) -> None:
    """Also where the caller has threads, of which none but the one that waits has started it."""
    pids = tmp_path / "pids"
    script = (
        "import threading, time; from llama_programs.run import listen\n"
        "threading.Thread(target=time.sleep, args=(300,), daemon=True).start()\n"
        f"listen({[sys.executable, '-c', own_pid(pids)]!r}, lambda said: None)"
    )
    with ends(pids), subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as caller:
        while not pids.exists():
            assert caller.poll() is None
            time.sleep(0.02)
        caller.kill()


def own_pid(pids: Path) -> str:
    """A program that tells its process id, and sleeps."""
    return (
        f"import os, time; open({str(pids) + '.part'!r}, 'w').write(str(os.getpid()))\n"
        f"os.rename({str(pids) + '.part'!r}, {str(pids)!r}); time.sleep(300)"
    )


def test_a_program_that_starts_when_its_caller_is_gone_does_not_run() -> None:
    command = [sys.executable, bound_launcher.__file__, "1", "-", sys.executable, sys.executable, "-c", "print('runs')"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (128 + signal.SIGKILL, "")


def test_a_file_that_is_no_program_says_so(tmp_path: Path) -> None:
    program = tmp_path / "llama-bench"
    program.write_bytes(b"\x7fELF nonsense")
    program.chmod(0o755)
    with pytest.raises(ProgramFailed, match=f"{program} cannot be run: Exec format error"):
        output_of([str(program)])


def test_a_program_that_does_not_want_to_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_PATIENCE", 0.2)
    ready = tmp_path / "ready"
    code = f"import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(ready)!r}, 'w')"
    with running(python(f"{code}; time.sleep(300)")) as process:
        while not ready.exists():
            time.sleep(0.02)
    assert process.returncode == -signal.SIGKILL


def test_a_program_is_given_no_input() -> None:
    assert output_of(python("import sys; print(repr(sys.stdin.read()))")) == "''\n"


def test_a_program_that_is_not_there() -> None:
    for start in (output_of, timed_run):
        with pytest.raises(ProgramFailed, match=r"^/nowhere/program cannot be run: No such file or directory$"):
            start(["/nowhere/program", "--option"])
    with pytest.raises(ProgramFailed, match="cannot be run"):
        listen(["/nowhere/program"], lambda output: None)


def test_listening_hears_lines_before_they_end() -> None:
    heard: list[str] = []
    code = "import sys, time; sys.stdout.write('one'); sys.stdout.flush(); time.sleep(0.3); print(' two ü')"
    status, output = listen(python(code), heard.append)
    assert (status, output) == (0, "one two ü\n")
    assert heard[0] == "one" and heard[-1] == output


def test_listening_hears_both_streams_and_tells_the_status() -> None:
    code = "import sys; print('out', flush=True); print('err', file=sys.stderr, flush=True); sys.exit(3)"
    assert listen(python(code), lambda output: None) == (3, "out\nerr\n")


def test_a_listener_that_raises_ends_the_program(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def refuse(output: str) -> None:
        raise ValueError(output)

    with ends(pids), pytest.raises(ValueError, match="ready"):
        listen(parent_and_child(pids), refuse)


def test_the_output_is_that_of_standard_output_alone() -> None:
    assert output_of(python("import sys; print('out'); print('err', file=sys.stderr)")) == "out\n"


def test_a_program_that_fails_is_named_with_its_last_words() -> None:
    code = "import sys; print('x' * 5000 + 'the end', file=sys.stderr); sys.exit(2)"
    for start in (output_of, timed_run):
        with pytest.raises(ProgramFailed) as caught:
            start(python(code))
        said = str(caught.value)
        command, how, words = said.split("\n")
        assert command == " ".join(python(code)) and how == "failed (status 2):"
        assert words.endswith("the end") and 2900 < len(words) <= 3000


def test_time_and_memory_are_those_of_the_program_alone() -> None:
    """Linux counts a process from the peak of the one that started it."""
    held = b"x" * 600_000_000
    seconds, peak = timed_run(python("import time; x = b'x' * 300_000_000; time.sleep(0.2)"))
    assert len(held) > 400e6 > peak > 300e6 and seconds > 0.2
    assert timed_run(python("pass"))[1] < 50e6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_measured_program_that_a_signal_ended_says_so(number: signal.Signals) -> None:
    with pytest.raises(ProgramFailed, match=f"was ended by {number.name}"):
        timed_run(python(f"import os; os.kill(os.getpid(), {int(number)})"))


def test_a_measured_program_may_clean_up_when_its_caller_is_interrupted(tmp_path: Path) -> None:
    ready, cleaned = tmp_path / "ready", tmp_path / "cleaned"
    code = (
        "import signal, sys, time; from pathlib import Path\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(Path(sys.argv[2]).touch()))\n"
        "Path(sys.argv[1]).touch(); time.sleep(300)"
    )
    script = (
        "import sys; from llama_programs.run import timed_run; from terminal.tool import run_tool\n"
        "run_tool(lambda _: timed_run(sys.argv[1:]), None)"
    )
    command = [sys.executable, "-c", script, *python(code), str(ready), str(cleaned)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) as caller:
        while not ready.exists():
            assert caller.poll() is None
            time.sleep(0.02)
        caller.send_signal(signal.SIGINT)
    assert cleaned.exists()


def test_how_programs_end() -> None:
    assert ending(3) == "failed (status 3)"
    assert ending(-signal.SIGTERM) == "was ended by SIGTERM"
    assert ending(-signal.SIGKILL) == "was ended by SIGKILL (out of memory?)"


def test_a_program_of_a_folder(tmp_path: Path) -> None:
    program = tmp_path / "llama-bench"
    with pytest.raises(NoProgramError, match=f"^{tmp_path} has no program llama-bench; .*--llama-bin$"):
        find_program("llama-bench", tmp_path)
    program.touch()
    with pytest.raises(NoProgramError):  # which cannot be run
        find_program("llama-bench", tmp_path)
    program.chmod(0o755)
    assert find_program("llama-bench", tmp_path) == program
    program.unlink()
    program.mkdir()
    with pytest.raises(NoProgramError):
        find_program("llama-bench", tmp_path)


def test_without_a_build_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EOQ_CACHE", str(tmp_path))
    with pytest.raises(NoProgramError, match=r"eoq setup, or name a folder .* --llama-bin"):
        find_program("llama-bench", None)
