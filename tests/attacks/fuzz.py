"""Fuzzing by hand, a hundred times as fast as test_fuzz.py: the same readers, valid files, and damage to them.

    python -m tests.attacks.fuzz --executions 1000000 --target GGUF --seed 2
    python -m tests.attacks.fuzz --target GGUF --seed 2 --first 4711 --executions 1      # one of them again

A reader may refuse a file with an EoqError or work with it, soon and in little memory. What else it does is a finding:
each kind is told once, with its number, and the file is saved. Seed and number make the file, whatever ran before.
"""

import argparse
import gc
import mmap
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from threadpoolctl import threadpool_limits

from tests.attacks.mutations import Thrown, damage
from tests.attacks.targets import TARGETS, Target, attack, restore
from tests.attacks.tool import MOST_BYTES

MOST_SECONDS = 20.0
"""For one file, on a busy machine."""
_POLL = 0.05
_COUNTS = struct.Struct("<QQQQ")
"""In memory that worker and parent share: executions begun, files taken, findings, peak resident memory in KiB."""
_OUT_OF_ORDER = 77
"""Exit status of a worker that has found something it cannot go on after."""


@dataclass
class Run:
    """What is to be done with one target, and what came of it."""

    name: str
    target: Target
    seed: int
    first: int
    executions: int
    folder: Path
    """For the reader's files, in memory."""
    saved: Path
    """For files that are findings."""
    counts: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, _COUNTS.size))
    crashes: int = 0

    def file(self, number: int) -> bytes:
        """The damaged file of a number."""
        return damage(self.target.valid, Thrown(f"{self.seed}/{self.name}/{number}"))

    def save(self, number: int, what: str) -> None:
        """Keep a finding, and tell of it."""
        self.saved.mkdir(parents=True, exist_ok=True)
        path = self.saved / f"{self.name.replace(' ', '-')}-{self.seed}-{number}"
        path.write_bytes(self.file(number))
        print(f"{self.name}: execution {number}, saved as {path}:\n{what.rstrip()}", flush=True)


def work(run: Run, first: int) -> None:
    """All executions from number `first` on, in a process of its own."""
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    begun, taken, findings, _ = _COUNTS.unpack(run.counts)
    told = set()
    with threadpool_limits(1):
        for number in range(first, run.first + run.executions):
            begun += 1
            _COUNTS.pack_into(run.counts, 0, begun, taken, findings, _peak())
            try:
                taken += attack(run.folder, run.target, run.file(number))
            except Exception as error:
                findings += 1
                where = traceback.extract_tb(error.__traceback__)[-1]
                kind = (type(error), where.filename, where.lineno)
                if kind not in told:
                    told.add(kind)
                    run.save(number, traceback.format_exc())
    _COUNTS.pack_into(run.counts, 0, begun, taken, findings, _peak())


def _peak() -> int:
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def fuzz(run: Run) -> int:
    """All executions of a run, in workers that may die; returns the number of findings. Interrupted, it tells them."""
    restore(run.folder)
    started = time.perf_counter()
    try:
        _fuzz(run)
    finally:
        begun, taken, findings, peak = _COUNTS.unpack(run.counts)
        seconds = time.perf_counter() - started
        found = findings + run.crashes
        print(
            f"{run.name}: {begun:,} executions in {seconds:.0f} s ({begun / max(seconds, 1e-9):,.0f} a second), "
            f"{taken:,} files were taken; at most {peak / 1024:.0f} MiB; {found} findings",
            flush=True,
        )
    return int(found)


def _fuzz(run: Run) -> None:
    first = run.first
    while first < run.first + run.executions:
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            try:
                work(run, first)
            except BaseException:
                traceback.print_exc()
                os._exit(_OUT_OF_ORDER)
            sys.stdout.flush()
            os._exit(0)
        try:
            why = _waited(run, pid)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        if why is None:
            return
        run.crashes += 1
        begun = _COUNTS.unpack(run.counts)[0]
        run.save(run.first + begun - 1, why)
        first = run.first + begun


def _waited(run: Run, pid: int) -> str | None:
    """Wait for a worker: why it ended before its time; None if it did not. One that hangs is killed."""
    before, polls = -1, 0  # not the clock: it goes on where both are stopped
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return None if code == 0 else f"the process ended with {code}"
        begun = _COUNTS.unpack(run.counts)[0]
        if begun != before:
            before, polls = begun, 0
        elif (polls := polls + 1) > MOST_SECONDS / _POLL:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return f"no end after {MOST_SECONDS:.0f} seconds"
        time.sleep(_POLL)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.attacks.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--target", choices=TARGETS, action="append", help="may be repeated (default: all, one after the other)")
    add("--executions", type=int, default=10_000, metavar="N", help="for each target (default: 10000)")
    add("--seed", type=int, default=1, metavar="N", help="other damage (default: 1)")
    add("--first", type=int, default=0, metavar="N", help="number of the first execution (default: 0)")
    add("--save", type=Path, default=Path("build/fuzz"), metavar="DIR", help="for findings (default: build/fuzz)")
    options = parser.parse_args(words)
    if options.executions < 1 or options.first < 0:
        parser.error("--executions must be at least 1, and --first at least 0")
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="eoq-fuzz-", dir=memory if memory.is_dir() else None))
    gc.freeze()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        runs = [
            Run(name, TARGETS[name], options.seed, options.first, options.executions, folder, options.save)
            for name in options.target or TARGETS
        ]
        return int(sum(map(fuzz, runs)) > 0)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
