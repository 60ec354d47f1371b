"""Every option of `eoq setup` and `eoq patch` reaches what fetches, builds and patches llama.cpp."""

from pathlib import Path
from typing import Any

import pytest

from llama_programs.build import NATIVE, BuildKind
from tests.integration.options.tools import Effect, Walk, checks, done, refused


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What is asked of the functions that fetch and build, which do nothing."""
    calls: list[tuple[Any, ...]] = []

    def programs(cache: Path, jobs: int, kind: BuildKind, wanted: list[str] | None) -> Path:
        calls.append(("programs", jobs, kind, wanted))
        return Path("bin")

    def source(cache: Path, kind: BuildKind) -> Path:
        calls.append(("source", kind))
        return Path("src")

    monkeypatch.setattr("llama_programs.setup.ensure_programs", programs)
    monkeypatch.setattr("llama_programs.setup.ensure_source", source)

    def unpacked(tar: Path, cache: Path) -> Path:
        calls.append(("tar", tar))
        return Path("bin")

    monkeypatch.setattr("llama_programs.setup.ensure_unpacked", unpacked)
    monkeypatch.setattr("os.cpu_count", lambda: 5)
    return calls


def jobs(builds: list[tuple[Any, ...]]) -> None:
    assert done("setup") == done("setup", "--jobs", 3) == "bin\n"
    assert builds == [("programs", 5, NATIVE, None), ("programs", 3, NATIVE, None)]


def cuda(builds: list[tuple[Any, ...]]) -> None:
    """What the build makes of it is looked at beside this."""
    done("setup", "--cuda")
    done("setup", "--cuda", "86;89")
    assert builds == [("programs", 5, BuildKind(cuda="native"), None), ("programs", 5, BuildKind(cuda="86;89"), None)]


def vulkan(builds: list[tuple[Any, ...]]) -> None:
    done("setup", "--vulkan")
    assert builds == [("programs", 5, BuildKind(vulkan=True), None)]


def programs(builds: list[tuple[Any, ...]]) -> None:
    done("setup", "--programs", "llama-cli", "llama-quantize")
    assert builds == [("programs", 5, NATIVE, ["llama-cli", "llama-quantize"])]


def source(builds: list[tuple[Any, ...]]) -> None:
    assert done("setup", "--source") == "src\n"
    assert builds == [("source", NATIVE)]


def tar(builds: list[tuple[Any, ...]]) -> None:
    assert done("setup", "--tar", "a.tar.xz") == "bin\n"
    assert builds == [("tar", Path("a.tar.xz"))]
    for other in (["--cuda"], ["--vulkan"], ["--programs", "llama-cli"], ["--source"]):
        assert "--tar builds nothing" in refused("setup", "--tar", "a.tar.xz", *other)


SETUP = Walk(
    "setup",
    {"--jobs": jobs, "--cuda": cuda, "--vulkan": vulkan, "--programs": programs, "--source": source, "--tar": tar},
    {"--programs": {"llama-nonsense": "invalid choice"}, "--tar": {"{out}/no.tar.xz": "cannot be read"}},
    ("--source",),
    {"--tar": ()},
)
IN_PATCH = "tests/unit/ggml_patch/test_command_line.py"
PATCH = Walk(
    "patch",
    {
        "apply --check": f"{IN_PATCH}::test_round_trip",
        "apply --revert": f"{IN_PATCH}::test_round_trip",
        "apply --diff": f"{IN_PATCH}::test_round_trip",
        "key --build-option": f"{IN_PATCH}::test_key_and_versions",
    },
    {},
    ("versions",),
)


@pytest.mark.parametrize("check", checks(SETUP.effects))
def test_it_has_an_effect(check: Effect, builds: list[tuple[Any, ...]]) -> None:
    check(builds)
