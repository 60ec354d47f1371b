"""The wheel holds all that the tools need: sources in C and CUDA, texts, tables, and a command."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ggml_patch.sources import sources

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what git knows, for building writes into the tree."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    tree = tmp_path_factory.mktemp("tree")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    words = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-w", "dist", "."]
    subprocess.run([sys.executable, "-m", "pip", *words], cwd=tree, check=True)
    (built,) = (tree / "dist").iterdir()
    return built


def test_an_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "site"
    words = ["install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", str(installed), str(wheel)]
    subprocess.run([sys.executable, "-m", "pip", *words], check=True)
    # -P: what is imported comes from there, not from this tree
    script = (
        "from ggml_patch.sources import sources\n"
        "from converter.calibrate.texts import bundled_texts\n"
        "from converter.plan.planners.fastewq import read_dataset\n"
        "read_dataset()\n"
        "print(sum(map(len, bundled_texts().values())))\n"
        "print(*[source.ours for source in sources()], sep='\\n')\n"
    )
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    length, *files = done.stdout.splitlines()
    assert int(length) > 2_500_000
    ours = {source.path: source.read() for source in sources()}
    found = [Path(file) for file in files]
    assert len(found) == len(ours) and all(file.is_relative_to(installed) for file in found)
    assert sorted(file.read_bytes() for file in found) == sorted(ours.values())

    command = subprocess.run(
        [installed / "bin" / "eoq", "--help"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert command.returncode == 0 and "convert" in command.stdout, command.stderr


def test_it_holds_no_tests_and_no_tools(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {
        "converter",
        "eoq",
        "eoq_formats",
        "eoq_transformers",
        "eoq_vllm",
        "evaluation",
        "ggml_patch",
        "gguf_files",
        "hf_export",
        "input_files",
        "inspection",
        "llama_programs",
        "material",
        "output_files",
        "terminal",
    }
    assert not [name for name in names if name.startswith("ggml_patch/tests/")]
    assert [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]


def test_vllm_finds_its_plugin(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
        groups = archive.read(name).decode().replace(" ", "").split("[")
    assert "vllm.general_plugins]\neoq=eoq_vllm:register\n" in [group.rstrip("\n") + "\n" for group in groups]
