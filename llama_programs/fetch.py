"""Download packages from PyPI, and take the llama.cpp tree out of a source distribution."""

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ggml_patch.versions import LlamaCppVersion
from llama_programs.errors import FetchError
from llama_programs.untar import extract
from output_files import leftovers


def cache_folder() -> Path:
    """Where all is kept that is downloaded or built: `$EOQ_CACHE`, by default `~/.cache/eoq`. Raises FetchError."""
    try:
        return Path(os.environ.get("EOQ_CACHE") or Path.home() / ".cache" / "eoq").absolute()
    except RuntimeError:
        raise FetchError("this user has no home folder; name a folder for downloads and builds in EOQ_CACHE") from None


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def scratch_folder(beside: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `beside`, so that what it holds can be renamed into place."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    with leftovers.scratch_folder(beside.parent) as folder:
        yield folder


def pip_download(requirement: str, folder: Path, *, source: bool = False) -> Path:
    """Download the one file of `requirement` (`name==version`) into the empty `folder`: a wheel, or the sdist.

    Goes through pip, so its settings (index, proxy, certificates) apply. Raises FetchError.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{sys.executable} has no pip to download {requirement} with; run {sys.executable} -m ensurepip"
        )
    # this package alone from source: pip also fetches the build backend, to read the sdist's metadata
    form = ["--no-binary", requirement.partition("==")[0]] if source else ["--only-binary", ":all:"]
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check", "--no-deps", *form]
    done = subprocess.run([*command, "-d", str(folder), requirement], capture_output=True, text=True)
    files = list(folder.iterdir()) if done.returncode == 0 else []
    if len(files) != 1:
        raise FetchError(f"could not download {requirement} from PyPI; pip says: {done.stderr.strip()[-2000:]}")
    return files[0]


def download_sdist(version: LlamaCppVersion, cache: Path) -> Path:
    """The checked source distribution of `version` in the cache, downloaded unless it is there already.

    Raises FetchError when it cannot be had or is not the file that versions.py knows.
    """
    target = cache / "downloads" / version.sdist
    if target.is_file() and sha256_of(target) == version.sha256:
        return target
    with scratch_folder(target) as folder:
        file = pip_download(f"{version.package}=={version.version}", folder, source=True)
        digest = sha256_of(file)
        if digest != version.sha256:
            raise FetchError(f"{file.name} from PyPI has sha256 {digest}, expected {version.sha256}: not used")
        file.replace(target)
    return target


def extract_tree(sdist: Path, version: LlamaCppVersion, target: Path) -> None:
    """Unpack the llama.cpp tree of an sdist as the new folder `target`; a half-unpacked tree is never seen there.

    Raises FetchError when the archive is damaged or holds no such tree.
    """
    prefix = version.tree + "/"
    with scratch_folder(target) as folder:
        try:
            with tarfile.open(sdist) as archive:
                members = [m for m in archive if m.name.startswith(prefix)]
                extract(archive, folder, members)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise FetchError(f"{sdist} cannot be unpacked ({error}); delete it and run again") from error
        tree = folder / version.tree
        if not (tree / "CMakeLists.txt").is_file():
            raise FetchError(f"{sdist} holds no llama.cpp tree at {version.tree}")
        # a submodule's link to a repository that the sdist does not carry: git commands inside would fail
        (tree / ".git").unlink(missing_ok=True)
        tree.rename(target)
