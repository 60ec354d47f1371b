"""The tar of a portable build, made of programs of three lines, and what unpacks it."""

import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from llama_programs import build, package, unpack
from llama_programs.errors import BuildError, FetchError, NoProgramError
from llama_programs.find import find_llama_dir, find_program
from tests.samples.waiting import LONGEST

pytestmark = pytest.mark.skipif(
    (platform.system(), platform.machine()) != ("Linux", "x86_64") or shutil.which("cc") is None,
    reason="the tar is for Linux on x86-64, and made there",
)
ANSWER = "int answer(void);\nint main(void) { return answer() != 42; }\n"


def compile_(output: Path, source: str, *options: str | Path, rpath: str = "$ORIGIN") -> None:
    words = ["cc", "-x", "c", "-", "-x", "none", "-o", str(output), f"-Wl,-rpath,{rpath}", *map(str, options)]
    subprocess.run(words, input=source, text=True, check=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder's bin: programs that need a library beside them and libgomp, and the tree beside that folder."""
    folder = tmp_path_factory.mktemp("built")
    programs, source = folder / "build" / "bin", folder / "src"
    programs.mkdir(parents=True)
    compile_(
        programs / "libggml-base.so.0.1", "int answer(void) { return 42; }", "-shared", "-Wl,-soname,libggml-base.so.0"
    )
    (programs / "libggml-base.so.0").symlink_to("libggml-base.so.0.1")
    compile_(programs / "libggml-cpu-x64.so", "int cpu;", "-shared")
    libraries = (programs / "libggml-base.so.0", "-Wl,--no-as-needed", "-l:libgomp.so.1")
    compile_(programs / "llama-cli", ANSWER, *libraries)
    for name in build.PORTABLE_TARGETS[1:]:
        shutil.copy(programs / "llama-cli", programs / name)
    files = dict.fromkeys(("LICENSE", "gguf-py/LICENSE", "licenses/LICENSE-json", "vendor/http/LICENSE"), "licence")
    files |= {"convert_hf_to_gguf.py": "pass", "conversion/__init__.py": ""}
    files |= {name: f"/* {words}\nas you like */ code" for name, words in package._LICENCE_IN.items()}
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    return programs


@pytest.fixture
def tar(built: Path, tmp_path: Path) -> Path:
    return package.package(built, built.parents[1] / "src", tmp_path)


def test_the_programs_run_elsewhere(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    programs = unpack.ensure_unpacked(tar, cache)
    for name in build.PORTABLE_TARGETS:
        subprocess.run([programs / name], env={"PATH": "/usr/bin:/bin"}, check=True, timeout=LONGEST)
    assert {path.name for path in programs.glob("*.so*")} == {"libggml-base.so.0", "libggml-cpu-x64.so", "libgomp.so.1"}
    loaded = subprocess.run(["ldd", programs / "llama-cli"], capture_output=True, text=True, check=True).stdout
    assert f"libgomp.so.1 => {programs}/libgomp.so.1" in loaded
    licences = {path.stem: path.read_text() for path in (programs.parent / "licenses").iterdir()}
    assert {"llama.cpp", "EOQ", "gguf-py", "json", "http", "libgomp.so.1", "miniaudio"} <= set(licences)
    assert licences["miniaudio"].endswith("as you like\n")
    # and the tools find them, where nothing is built
    monkeypatch.setenv("EOQ_CACHE", str(cache))
    assert find_program("llama-cli", None) == programs / "llama-cli"
    assert find_llama_dir(None) == programs.parent / "src"
    with pytest.raises(NoProgramError, match="run eoq setup"):
        find_program("eoq-lab", None)


def test_unpacked_once(tar: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    programs = unpack.ensure_unpacked(tar, tmp_path / "cache")
    capfd.readouterr()
    assert unpack.ensure_unpacked(tar, tmp_path / "cache") == programs
    assert "already unpacked" in capfd.readouterr().err
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.name.startswith(".")] == []


def test_the_same_programs_make_the_same_tar(built: Path, tar: Path, tmp_path: Path) -> None:
    for file in built.iterdir():
        os.utime(file, (1, 1), follow_symlinks=False)
    (tmp_path / "again").mkdir()
    again = package.package(built, built.parents[1] / "src", tmp_path / "again")
    assert again.name == tar.name and again.read_bytes() == tar.read_bytes()
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    assert tar.with_name(f"{tar.name}.sha256").read_text() == f"{digest}  {tar.name}\n"
    with tarfile.open(tar) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", package._TIME)}
    assert [name for name in names if not name.startswith(build.package_name())] == []


def test_what_would_not_run_elsewhere_is_not_packed(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "build" / "bin"
    shutil.copytree(built, folder, symlinks=True)
    source = built.parents[1] / "src"

    def refused(message: str) -> None:
        with pytest.raises(BuildError, match=message):
            package.package(folder, source, tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    compile_(tmp_path / "elsewhere" / "libother.so", "int answer(void) { return 42; }", "-shared")
    away = tmp_path / "elsewhere"
    compile_(folder / "llama-cli", ANSWER, away / "libother.so", rpath=str(away))
    refused("libother.so, which other machines may lack")
    compile_(folder / "llama-cli", ANSWER, folder / "libggml-base.so.0", rpath=str(folder))
    refused("elsewhere than beside itself")
    (folder / "libggml-cpu-x64.so").unlink()
    refused("this machine's CPU alone")
    (folder / "llama-bench").unlink()
    refused("lacks llama-bench")


def altered(tar: Path, folder: Path, name: str, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    """A tar with one more member, and its checksum."""
    target = folder / name
    with tarfile.open(tar) as old, tarfile.open(target, "w:xz", preset=0) as new:
        for one in old.getmembers():
            new.addfile(one, old.extractfile(one) if one.isfile() else None)
        member.size = len(content)
        new.addfile(member, io.BytesIO(content))
    return summed(target)


def summed(tar: Path) -> Path:
    digest = hashlib.sha256(tar.read_bytes()).hexdigest()
    tar.with_name(f"{tar.name}.sha256").write_text(f"{digest}  {tar.name}\n")
    return tar


def hostile() -> dict[str, tarfile.TarInfo]:
    top = build.package_name()
    link, hard, device = (tarfile.TarInfo(f"{top}/bin/llama-evil") for _ in range(3))
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard.type, hard.linkname = tarfile.LNKTYPE, "../../outside"
    device.type = tarfile.CHRTYPE
    return {
        "climbs": tarfile.TarInfo(f"{top}/../../outside"),
        "absolute": tarfile.TarInfo("/outside"),
        "beside": tarfile.TarInfo("another/file"),
        "link": link,
        "hard link": hard,
        "device": device,
    }


@pytest.mark.parametrize("kind", hostile())
def test_hostile_members_are_refused(kind: str, tar: Path, tmp_path: Path) -> None:
    evil = altered(tar, tmp_path, "evil.tar.xz", hostile()[kind])
    with pytest.raises(FetchError, match=r"cannot be unpacked|holds .*, and this EOQ needs"):
        unpack.ensure_unpacked(evil, tmp_path / "deep" / "cache")
    assert not list(tmp_path.rglob("outside*")) and not list(tmp_path.rglob("llama-evil"))
    assert [path.name for path in (tmp_path / "deep" / "cache").iterdir()] == ["downloads"]


def test_wrong_tars_end_in_a_sentence(tar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"

    def refused(file: Path, message: str) -> None:
        with pytest.raises(FetchError, match=message):
            unpack.ensure_unpacked(file, cache)
        assert not list(cache.glob("eoq-*"))

    refused(tmp_path / "none.tar.xz", "none.tar.xz")
    cut = tmp_path / "cut.tar.xz"
    cut.write_bytes(tar.read_bytes()[:-100])
    refused(cut, r"no cut\.tar\.xz\.sha256 beside it")
    tar.with_name("cut.tar.xz.sha256").write_text(tar.with_name(f"{tar.name}.sha256").read_text())
    refused(cut, r"has sha256 .* says another")
    refused(summed(cut), "cannot be unpacked")
    newer = tarfile.TarInfo(f"{build.package_name()}/{unpack.CONTENTS}")
    refused(
        altered(tar, tmp_path, "n.tar.xz", newer, json.dumps({"glibc": "99.1"}).encode()), r"needs glibc 99\.1 or newer"
    )
    refused(altered(tar, tmp_path, "m.tar.xz", newer, b"[]"), "is no package of EOQ's")
    with monkeypatch.context() as patch:
        patch.setattr(build, "content_key", lambda options: "0123456789ab")
        refused(tar, r"holds eoq-llama\.cpp-.*, and this EOQ needs eoq-llama\.cpp-.*-0123456789ab-linux-x86_64")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    refused(tar, "is for Linux on x86-64")
