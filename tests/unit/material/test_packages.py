"""Files out of packages: by their paths, in order, and an error that names what is not there."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from llama_programs.errors import FetchError
from material import packages
from material.packages import npm_members, sdist_members, wheel_members

FILES = {"a.txt": b"first", "folder/b.txt": b"second"}


def tar(path: Path, top: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in FILES.items():
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for npm's registry."""
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", tmp_path.as_uri() + "/")
    return tmp_path


@pytest.mark.parametrize("package", ["name", "@scope/name"])
def test_npm(registry: Path, package: str) -> None:
    folder = registry / package / "-"
    folder.mkdir(parents=True)
    tar(folder / "name-1.2.tgz", "package")
    assert npm_members(package, "1.2", ["folder/b.txt", "a.txt"]) == [b"second", b"first"]
    with pytest.raises(FetchError, match=r"name 1\.2 lacks c\.txt"):
        npm_members(package, "1.2", ["a.txt", "c.txt"])


def test_npm_package_that_is_not_there(registry: Path) -> None:
    with pytest.raises(FetchError, match=r"name-3\.tgz"):
        npm_members("name", "3", ["a.txt"])


def test_pypi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "name-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    sdist = tar(tmp_path / "name-1.tar.gz", "name-1")
    monkeypatch.setattr(packages, "pip_download", lambda requirement, folder, source=False: sdist if source else wheel)
    for members in (wheel_members, sdist_members):
        assert members("name==1", ["folder/b.txt", "a.txt"]) == [b"second", b"first"]
        with pytest.raises(FetchError, match=r"name==1 lacks c\.txt"):
            members("name==1", ["c.txt"])
