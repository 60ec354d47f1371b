"""What all tests share: the built llama.cpp and its source."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from llama_programs.build import built_programs, ensure_source
from llama_programs.errors import BuildError
from llama_programs.fetch import cache_folder

# how long an example takes is the machine's matter
settings.register_profile("eoq", deadline=None)
settings.load_profile("eoq")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--llama-bin",
        type=Path,
        help="folder of built llama.cpp programs with the patch (default: what tools/setup.sh built)",
    )
    parser.addoption("--kills", type=int, default=10, help="how often a conversion is killed (default: 10)")


def pytest_configure(config: pytest.Config) -> None:
    if worker := getattr(config, "workerinput", None):
        _keep_to_share_of_cores(int(worker["workerid"].removeprefix("gw")), worker["workercount"])
    # a shell ignores SIGINT for background jobs, and nohup SIGHUP, which programs under test would inherit
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


class _ByFile(LoadFileScheduling):  # type: ignore[misc]
    """Tests of a file share what is made for it, and the end-to-end tests whole models: those stay on one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else str(super()._split_scope(nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByFile:
    return _ByFile(config, log)


def _keep_to_share_of_cores(number: int, workers: int) -> None:
    """Give a worker of pytest-xdist, and what it starts, cores of its own: threads that wait for others spin."""
    if cores := sorted(os.sched_getaffinity(0))[number::workers]:
        os.sched_setaffinity(0, cores)
        # llama.cpp counts the machine's cores
        os.environ["LLAMA_ARG_THREADS"] = str(len(cores))


@pytest.fixture(autouse=True)
def signal_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Puts back what a command line that is called in this process does to signals."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for outputs, to see what is left in it."""
    path = tmp_path / "out"
    path.mkdir()
    return path


@pytest.fixture(scope="session")
def programs(request: pytest.FixtureRequest) -> Path:
    """The folder with llama-cli and the other programs of the patched llama.cpp."""
    given: Path | None = request.config.getoption("--llama-bin")
    if given is not None:
        return given.absolute()
    try:
        return built_programs(cache_folder())
    except BuildError as error:
        pytest.fail(str(error))


@pytest.fixture(scope="session")
def llama_source() -> Path:
    """The patched source tree of the pinned llama.cpp; fetched if the cache has none."""
    return ensure_source(cache_folder())
