"""Disks that fill up at any stage, and places that cannot be written: one line, and nothing half-written."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.converter.command_line import TOOL, assert_refused
from tests.samples.gguf_samples import tiny_model, write_gguf

ROOT = TOOL.parents[1]
SIZE = 60_000
"""Bytes that the tiny model takes at the very least when it is converted."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("source") / "model.gguf", tiny_model())


def run_after(preparation: str, source: Path, target: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Convert to nearest in a process that has been prepared for it."""
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from eoq.convert import main
{preparation}
sys.exit(main([{str(source)!r}, {str(target)!r}, "--rtn", "--quiet", *{options!r}]))
"""
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("size", [100, 4000, SIZE // 2, SIZE])
def test_files_that_can_grow_no_more(size: int, source: Path, folder: Path) -> None:
    """In what is kept first, in the head, and in tensors; also where numba would keep what it compiles."""
    target = folder / "m.gguf"
    target.write_bytes(b"old")
    done = run_after(f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))", source, target)
    assert_refused(done, f"error: cannot write {target}")
    assert ": File too large" in done.stderr
    assert target.read_bytes() == b"old"
    left = sorted(path.name for path in folder.iterdir())
    if size == 100:
        assert left == ["m.gguf"]
        return
    # what fitted is kept, for when there is more room
    assert left == ["m.gguf", "m.gguf.work"] and "; the same command with --resume goes on with it" in done.stderr
    assert run_after("", source, target, "--resume").returncode == 0
    assert run_after("", source, folder / "again.gguf").returncode == 0
    assert target.read_bytes() == (folder / "again.gguf").read_bytes() and not (folder / "m.gguf.work").exists()


def test_a_report_for_which_there_is_no_room(source: Path, folder: Path) -> None:
    preparation = """
import errno
from pathlib import Path
real = Path.write_bytes
def write_bytes(self, data):
    if ".report.json." in self.name:
        raise OSError(errno.ENOSPC, "No space left on device")
    return real(self, data)
Path.write_bytes = write_bytes
"""
    target, report = folder / "m.gguf", folder / "m.report.json"
    done = run_after(preparation, source, target)
    assert_refused(done, f"error: cannot write {report}: No space left on device; {target} is complete")
    assert [path.name for path in folder.iterdir()] == ["m.gguf"] and target.read_bytes()[:4] == b"GGUF"


def test_a_small_disk(source: Path, folder: Path) -> None:
    """A real one, where this user may mount it: what was free when the work began is taken by somebody else."""
    script = f"""
mount -t tmpfs -o size=1m none {folder} && cd {ROOT} || exit 77
{sys.executable} - <<'PYTHON'
import sys
from pathlib import Path
from converter import ConversionOptions, ConversionProgress, RoundingOptions, convert
from eoq_formats.errors import EoqError

folder = Path({str(folder)!r})

class Filling(ConversionProgress):
    def tensor_done(self, record, number, count):
        if number == 1:
            with open(folder / "other", "wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass

try:
    convert(Path({str(source)!r}), folder / "m.gguf", ConversionOptions(rounding=RoundingOptions("nearest", awq=False)),
            Filling())
except EoqError as error:
    print(error, sorted(path.name for path in folder.iterdir()))
PYTHON
"""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare")
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    if "unshare" in done.stderr or done.returncode == 77:
        pytest.skip("this user may not mount")
    assert done.stdout == f"cannot write {folder / 'm.gguf'}: No space left on device ['m.gguf.work', 'other']\n", (
        done.stderr
    )


def test_a_place_to_keep_compiled_functions_is_not_needed(source: Path, folder: Path) -> None:
    """A read-only checkout and no home: numba alone would refuse to go on."""
    script = f"""
import sys
import numba.core.caching
def ensure_cache_path(self):
    raise OSError(30, "Read-only file system")
numba.core.caching._CacheLocator.ensure_cache_path = ensure_cache_path
sys.path.insert(0, {str(ROOT)!r})
import pkgutil
import converter, eoq_formats, gguf_files
for package in (converter, eoq_formats, gguf_files):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if "kernels" in module.name or "placement" in module.name or "survivors" in module.name:
            __import__(module.name)
from gguf_files.half_floats import widen_bfloat16
import numpy as np
out = np.empty((2, 4), dtype=np.float32)
widen_bfloat16(np.full((2, 4), 0x3F80, dtype=np.uint16), out)
print(out.sum())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "8.0\n", done.stderr
