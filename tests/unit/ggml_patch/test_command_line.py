import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ggml_patch.__main__ as command_line
from ggml_patch.apply import Patch, content_key
from ggml_patch.versions import OLDER, PINNED
from tests.unit.ggml_patch.conftest import EDITS, snapshot

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def patched_main(make_patch: Callable[..., Patch], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line with the small patch."""
    patch = make_patch(EDITS)
    monkeypatch.setattr(Patch, "ours", classmethod(lambda cls: patch))


@pytest.mark.usefixtures("patched_main")
@pytest.mark.parametrize(
    ("check", "apply", "diff", "revert"),
    [
        (["check"], ["apply"], ["diff"], ["revert"]),
        (["apply", "--check"], ["apply"], ["apply", "--diff"], ["apply", "--revert"]),
        (["--check"], ["apply"], ["--diff"], ["--revert"]),
    ],
)
def test_round_trip(
    tree: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    check: list[str],
    apply: list[str],
    diff: list[str],
    revert: list[str],
) -> None:
    before = snapshot(tree)

    def run(action: list[str]) -> bytes:
        assert command_line.main([*action, str(tree)]) == 0
        sys.stdout.flush()
        return capfdbinary.readouterr().out

    assert b"not patched" in run(check)
    assert run(diff).startswith(b"diff --git a/src/list.txt b/src/list.txt\n")
    assert snapshot(tree) == before
    assert b"3 files changed" in run(apply)
    assert b"already patched" in run(apply)
    assert b"3 files changed" in run(revert)
    assert snapshot(tree) == before


def test_error_is_one_sentence_and_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["apply", str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: {tmp_path} is no llama.cpp source tree: it has no ggml/include/ggml.h\n"


def test_key_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line.main(["key", "--build-option=-DA=1"]) == 0
    assert capsys.readouterr().out == content_key(["-DA=1"]) + "\n"
    assert command_line.main(["versions"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == [PINNED.version, OLDER.version]


def test_runs_without_any_package(tmp_path: Path) -> None:
    """-S and -I: the standard library alone, as on a bare machine."""
    script = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); sys.argv = ['ggml_patch', 'key']\n"
    script += "runpy.run_module('ggml_patch', run_name='__main__')"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == content_key(), done.stderr
