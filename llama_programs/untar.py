"""Unpacks tars, on Python 3.11.2 of Debian 12 too, whose tarfile has no filters yet."""

import os
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath


def extract(archive: tarfile.TarFile, folder: Path, members: Sequence[tarfile.TarInfo] | None = None) -> None:
    """Unpack the members (default: all) into a folder, and nothing outside of it. Raises tarfile.TarError."""
    chosen = archive.getmembers() if members is None else members
    if hasattr(tarfile, "data_filter"):
        archive.extractall(folder, chosen, filter="data")
        return
    for member in chosen:
        _check(member)
        member.uid, member.gid, member.uname, member.gname = os.getuid(), os.getgid(), "", ""
    archive.extractall(folder, chosen)


def _check(member: tarfile.TarInfo) -> None:
    """Raise tarfile.TarError for what is no file, folder or link, and for what lies or leads outside."""
    if not (member.isfile() or member.isdir() or member.issym() or member.islnk()):
        raise tarfile.ExtractError(f"{member.name!r} is no ordinary file")
    places = [member.name]
    if member.issym():
        places.append(posixpath.join(posixpath.dirname(member.name), member.linkname))
    elif member.islnk():
        places.append(member.linkname)
    for place in places:
        if place.startswith("/") or PurePosixPath(posixpath.normpath(place)).parts[:1] == ("..",):
            raise tarfile.ExtractError(f"{member.name!r} would lie or lead outside of the folder")
