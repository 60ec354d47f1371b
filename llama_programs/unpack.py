"""Programs that were built elsewhere: a tar of `package.py`, checked and unpacked in the cache."""

import os
import platform
import tarfile
from pathlib import Path, PurePosixPath

from input_files.ordinary import check_ordinary, read_text
from input_files.structured import read_json
from llama_programs.build import locked, package_name, step
from llama_programs.errors import FetchError
from llama_programs.fetch import scratch_folder, sha256_of
from llama_programs.untar import extract

CONTENTS = "contents.json"
"""In the package's folder: `glibc`, the version of the C library that its programs need at least, such as "2.36"."""


def ensure_unpacked(tar: Path, cache: Path) -> Path:
    """The folder of the programs of `tar` in the cache; unpacked unless it is there already.

    The tar's SHA-256 stands in a file beside it, as sha256sum writes it. Raises FetchError for a tar that is damaged,
    of another version or patch, or for another machine.
    """
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise FetchError(f"{tar} is for Linux on x86-64; run eoq setup without --tar to build for this machine")
    _check_sum(tar)
    target = cache / package_name()
    if (target / "bin").is_dir():
        step(f"llama.cpp: already unpacked in {target}")
        return target / "bin"
    with locked(cache / "downloads"), scratch_folder(target) as folder:
        if (target / "bin").is_dir():
            return target / "bin"
        step(f"llama.cpp: unpacking {tar}")
        _extract(tar, target.name, folder)
        _check_c_library(tar, folder / target.name)
        (folder / target.name).rename(target)
    step(f"llama.cpp: unpacked in {target}")
    return target / "bin"


def _check_sum(tar: Path) -> None:
    """Raises FetchError."""
    check_ordinary(tar, FetchError)
    beside = tar.with_name(f"{tar.name}.sha256")
    if not beside.exists():
        raise FetchError(f"{tar} has no {beside.name} beside it, which says what it must be; get both")
    expected = read_text(beside, FetchError, most=4096).split()[:1]
    digest = sha256_of(tar)
    if expected != [digest]:
        raise FetchError(f"{tar} has sha256 {digest}, and {beside.name} says another; get both again")


def _extract(tar: Path, top: str, folder: Path) -> None:
    """Unpack a tar whose one folder is `top`. Raises FetchError."""
    try:
        with tarfile.open(tar) as archive:
            tops = {"".join(PurePosixPath(name).parts[:1]) for name in archive.getnames()}
            if tops != {top}:
                held = ", ".join(sorted(tops)[:3]) or "nothing"
                raise FetchError(f"{tar} holds {held}, and this EOQ needs {top}; get that one, or build with eoq setup")
            extract(archive, folder)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise FetchError(f"{tar} cannot be unpacked ({error}); get it again") from error


def _check_c_library(tar: Path, folder: Path) -> None:
    """Raises FetchError where the programs would not start."""
    contents = read_json(folder / CONTENTS, FetchError)
    needed = contents.get("glibc") if isinstance(contents, dict) else None
    if not isinstance(needed, str) or not (folder / "bin").is_dir():
        raise FetchError(f"{tar} is no package of EOQ's: {CONTENTS} in it names no glibc, or it has no bin")
    name, _, here = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    if name != "glibc" or _version(here) < _version(needed):
        found = f"{name} {here}".strip() or "another"
        raise FetchError(f"{tar} needs glibc {needed} or newer, and this machine has {found}; build with eoq setup")


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
