"""The output file: whole and checked under its name, or not there at all."""

import os
import zlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType

from gguf_files.checksums import read_checksums
from gguf_files.header import pack_array, pack_entry, parse_header
from gguf_files.output import GgufOutput
from gguf_files.tensors import TensorInfo
from output_files.errors import TargetError
from output_files.target import resolve_target

METADATA = [
    pack_entry("general.architecture", GGUFValueType.STRING, "llama"),
    pack_entry("general.alignment", GGUFValueType.UINT32, 64),
]
SHAPES = {"a.weight": (3, 5), "b.weight": (7,)}
TENSORS = [TensorInfo(name, shape, T.F32) for name, shape in SHAPES.items()]
A, B = np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(7, dtype=np.float32).reshape(1, 7)


def write_all(target: Path) -> GgufOutput:
    with GgufOutput(target, METADATA, TENSORS, 64) as output:
        output.write_tensor(iter([A[:2].view(np.uint8), A[2:].view(np.uint8)]))
        assert not target.exists() or target.read_bytes() == b"old"
        output.write_tensor(iter([B.view(np.uint8)]))
        output.commit()
    return output


def test_the_file_is_what_gguf_py_expects(folder: Path) -> None:
    target = folder / "m.gguf"
    output = write_all(target)
    assert [path.name for path in folder.iterdir()] == ["m.gguf"]
    assert target.stat().st_size == output.size
    a, b = gguf.GGUFReader(target).tensors
    assert (a.data == A).all() and (b.data == B[0]).all()


def test_checksums_stand_in_the_metadata(folder: Path) -> None:
    target = folder / "m.gguf"
    with GgufOutput(target, METADATA, TENSORS, 64, with_checksums=True) as output:
        for data in (A, B):
            output.write_tensor(iter([data.view(np.uint8)]))
        output.commit()
    reader = gguf.GGUFReader(target)
    assert all((t.data == data).all() for t, data in zip(reader.tensors, (A, B[0]), strict=True))
    assert reader.fields["eoq.checksums"].contents() == [zlib.crc32(A.tobytes()), zlib.crc32(B.tobytes())]
    found = read_checksums(parse_header(target.read_bytes()).metadata)
    assert found is not None and found.tolist() == [zlib.crc32(A.tobytes()), zlib.crc32(B.tobytes())]
    assert read_checksums(METADATA) is None
    with pytest.raises(ValueError, match="not an array of uint32"):
        read_checksums([pack_array("eoq.checksums", GGUFValueType.INT32, [1, 2])])


def test_permissions_are_those_of_a_new_file(folder: Path) -> None:
    write_all(folder / "m.gguf")
    (folder / "plain").touch()
    assert (folder / "m.gguf").stat().st_mode == (folder / "plain").stat().st_mode


def test_an_existing_file_is_replaced_at_the_end(folder: Path) -> None:
    target = folder / "m.gguf"
    target.write_bytes(b"old")
    write_all(target)
    assert target.read_bytes()[:4] == b"GGUF"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_when_the_work_breaks_off(error: type[BaseException], folder: Path) -> None:
    target = folder / "m.gguf"
    target.write_bytes(b"old")
    with pytest.raises(error), GgufOutput(target, METADATA, TENSORS, 64) as output:
        output.write_tensor(iter([A.view(np.uint8)]))
        assert len(list(folder.iterdir())) == 2
        raise error
    assert [path.name for path in folder.iterdir()] == ["m.gguf"] and target.read_bytes() == b"old"


def test_a_disk_that_gives_back_other_bytes_is_noticed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def damage(descriptor: int) -> None:
        real(descriptor)
        (part,) = folder.glob("*.part")
        with part.open("r+b") as file:
            file.seek(-300, os.SEEK_END)
            file.write(b"\xff")

    monkeypatch.setattr(os, "fsync", damage)
    with pytest.raises(TargetError, match="reads back differently"):
        write_all(folder / "m.gguf")
    assert not list(folder.iterdir())


def test_a_disk_that_fills_up_leaves_nothing(folder: Path) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(TargetError, match=r"cannot write .*m\.gguf"):
            write_all(folder / "m.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(folder.iterdir())


def test_links_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "link.gguf").symlink_to(tmp_path / "real.gguf")
    write_all(resolve_target(folder / "link.gguf"))
    assert (folder / "link.gguf").is_symlink() and (tmp_path / "real.gguf").is_file()
