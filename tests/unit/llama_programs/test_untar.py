"""Tars are unpacked into their folder and nowhere else, whether Python's tarfile has filters or not."""

import io
import tarfile
from pathlib import Path

import pytest

from llama_programs.untar import extract


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.uid = kind, link, 12345
    made.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return made


def tar(folder: Path, *members: tarfile.TarInfo) -> Path:
    path = folder / "it.tar"
    with tarfile.open(path, "w") as archive:
        for each in members:
            data = b"text" if each.isreg() else b""
            each.size = len(data)
            archive.addfile(each, io.BytesIO(data))
    return path


@pytest.fixture(params=["filters", "no filters"])
def python(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python 3.11.4 and newer have filters, Debian 12's 3.11.2 has none."""
    if request.param == "no filters":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)


@pytest.mark.usefixtures("python")
def test_a_tree_is_unpacked(tmp_path: Path, folder: Path) -> None:
    links = member("a/link", tarfile.SYMTYPE, "../b"), member("a/hard", tarfile.LNKTYPE, "b")
    path = tar(tmp_path, member("a", tarfile.DIRTYPE), member("b"), *links)
    with tarfile.open(path) as archive:
        extract(archive, folder)
    assert (folder / "a/link").read_text() == (folder / "a/hard").read_text() == "text"
    assert (folder / "b").stat().st_uid == folder.stat().st_uid
    with tarfile.open(path) as archive:
        extract(archive, folder / "other", [archive.getmember("b")])
    assert [each.name for each in (folder / "other").iterdir()] == ["b"]


@pytest.mark.usefixtures("python")
@pytest.mark.parametrize(
    "evil",
    [
        member("../other"),
        member("a/../../other"),
        member("link", tarfile.SYMTYPE, "../other"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("hard", tarfile.LNKTYPE, "../it.tar"),
        member("fifo", tarfile.FIFOTYPE),
    ],
    ids=lambda evil: f"{evil.name} {evil.linkname}",
)
def test_what_leaves_the_folder_is_refused(tmp_path: Path, folder: Path, evil: tarfile.TarInfo) -> None:
    with tarfile.open(tar(tmp_path, evil)) as archive, pytest.raises(tarfile.TarError):
        extract(archive, folder)
    assert not (tmp_path / "other").exists() and not any(folder.iterdir())
