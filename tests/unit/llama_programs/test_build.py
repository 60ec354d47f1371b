"""The build of llama.cpp, tried on a tree of one file that builds in a second."""

import os
from pathlib import Path

import pytest

from ggml_patch.versions import LlamaCppVersion
from llama_programs import build
from llama_programs.errors import BuildError

CMAKE = """
cmake_minimum_required(VERSION 3.14)
project(fake C)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
foreach(name PROGRAMS)
    add_executable(${name} main.c)
endforeach()
"""


@pytest.fixture
def main_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The source file of a fake llama.cpp, to be changed before it is fetched."""
    origin = tmp_path / "main.c"
    origin.write_text("int main(void) { return 0; }\n")

    def extract_tree(sdist: Path, version: LlamaCppVersion, target: Path) -> None:
        target.mkdir()
        (target / "CMakeLists.txt").write_text(CMAKE.replace("PROGRAMS", " ".join(build.TARGETS)))
        (target / "main.c").write_text(origin.read_text())

    monkeypatch.setattr(build, "TARGETS", ("llama-cli", "ggml-rpc-server"))
    monkeypatch.setattr(build, "download_sdist", lambda version, cache: cache / "sdist")
    monkeypatch.setattr(build, "extract_tree", extract_tree)
    monkeypatch.setattr(build, "apply", lambda tree: (tree / "patched").touch())
    return origin


def test_builds_once(tmp_path: Path, main_c: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(BuildError, match=r"run eoq setup"):
        build.built_programs(cache)
    programs = build.ensure_programs(cache, jobs=2)
    assert programs == build.built_programs(cache) == build.layout(cache).programs
    assert os.access(programs / "rpc-server", os.X_OK)
    assert (build.layout(cache).source / "patched").exists()
    assert "building" in capfd.readouterr().err

    assert build.ensure_programs(cache, jobs=2) == programs
    said = capfd.readouterr()
    assert "already built" in said.err and "building" not in said.err
    assert said.out == ""


def test_lost_program_is_built_again(tmp_path: Path, main_c: Path) -> None:
    programs = build.ensure_programs(tmp_path, jobs=2)
    (programs / "llama-cli").unlink()
    build.ensure_programs(tmp_path, jobs=2)
    assert (programs / "llama-cli").exists()


def test_failed_build_shows_the_compiler_and_goes_on_later(tmp_path: Path, main_c: Path) -> None:
    main_c.write_text("int main(void) { return missing; }\n")
    with pytest.raises(BuildError, match="missing"):
        build.ensure_programs(tmp_path, jobs=2)
    with pytest.raises(BuildError):
        build.built_programs(tmp_path)
    place = build.layout(tmp_path)
    (place.source / "main.c").write_text("int main(void) { return 0; }\n")
    assert (build.ensure_programs(tmp_path, jobs=2) / "llama-cli").exists()


def test_missing_compiler_is_named(tmp_path: Path, main_c: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="no-such-compiler is needed"):
        build.ensure_programs(tmp_path, jobs=2)


def test_leftovers_of_an_interrupted_fetch_are_removed(tmp_path: Path, main_c: Path) -> None:
    place = build.layout(tmp_path)
    (place.folder / ".src.abandoned" / "tree").mkdir(parents=True)
    build.ensure_source(tmp_path)
    assert [p.name for p in place.folder.iterdir() if p.name.startswith(".src")] == []


def test_every_cause_of_another_binary_gives_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [build.layout(tmp_path).folder]
    monkeypatch.setattr(build, "OPTIONS", build.OPTIONS | {"GGML_RPC": "OFF"})
    folders.append(build.layout(tmp_path).folder)
    monkeypatch.setattr(build, "native_target", lambda: "another CPU")
    folders.append(build.layout(tmp_path).folder)
    monkeypatch.setattr(build, "content_key", lambda options: f"another patch {len(options)}")
    folders.append(build.layout(tmp_path).folder)
    assert len(set(folders)) == 4


def test_a_build_with_cuda_stands_beside_the_other(
    tmp_path: Path, main_c: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDACXX", "no-such-nvcc")
    with pytest.raises(BuildError, match="no-such-nvcc is needed"):
        build.ensure_programs(tmp_path, jobs=2, kind=build.BuildKind(cuda="86"))
    monkeypatch.setenv("CUDACXX", "true")
    programs = build.ensure_programs(tmp_path, jobs=2, kind=build.BuildKind(cuda="86;89"))
    cached = (programs.parent / "CMakeCache.txt").read_text()
    assert "GGML_CUDA:UNINITIALIZED=ON" in cached
    assert "CMAKE_CUDA_ARCHITECTURES:UNINITIALIZED=86;89" in cached
    assert programs != build.layout(tmp_path).programs
    with pytest.raises(BuildError, match="is not built"):
        build.built_programs(tmp_path)


def test_a_build_with_vulkan_stands_beside_the_other(
    tmp_path: Path, main_c: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda tool, path=None: None if tool == "glslc" else f"/usr/bin/{tool}")
    with pytest.raises(BuildError, match=r"glslc is needed.*libvulkan-dev"):
        build.ensure_programs(tmp_path, jobs=2, kind=build.BuildKind(vulkan=True))
    monkeypatch.undo()
    place = build.layout(tmp_path, build.BuildKind(vulkan=True))
    assert place.folder != build.layout(tmp_path).folder
    assert build.BuildKind(vulkan=True).options["GGML_VULKAN"] == "ON" and "GGML_VULKAN" not in build.NATIVE.options


@pytest.mark.parametrize(
    ("line", "share"),
    [("[3/12] Building C object x", 0.25), ("[ 40%] Building C object x", 0.4), ("warning: [1/2]", None)],
)
def test_progress(line: str, share: float | None) -> None:
    assert build.progress(line) == share


def test_some_programs_can_be_built_before_the_rest(
    tmp_path: Path, main_c: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    programs = build.ensure_programs(tmp_path, jobs=2, wanted=["llama-cli"])
    assert (programs / "llama-cli").exists()
    assert not (programs / "ggml-rpc-server").exists() and not (programs / "rpc-server").is_symlink()
    assert build.built_programs(tmp_path, ["llama-cli"]) == programs
    with pytest.raises(BuildError, match="is not built"):
        build.built_programs(tmp_path)
    capfd.readouterr()
    build.ensure_programs(tmp_path, jobs=2)
    assert "building 1 programs" in capfd.readouterr().err
    assert build.built_programs(tmp_path) == programs
