"""Clusters that cannot be used are refused in seconds, in one line. No Ray is needed."""

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from converter import ConversionOptions, convert
from converter.errors import ClusterError
from converter.remote.ray_cluster import connected
from converter.remote.shared_files import SharedFile
from tests.samples.gguf_samples import tiny_model, write_gguf


@pytest.fixture(autouse=True)
def ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that cannot connect."""

    def init(**options: object) -> None:
        raise RuntimeError("begun")

    exceptions = SimpleNamespace(RayError=OSError)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=bool, init=init, exceptions=exceptions))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@contextmanager
def answering(words: bytes) -> Iterator[str]:
    """The address of a server that says this and no more to its first client."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(100)
                connection.sendall(words)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        thread.join()


@pytest.mark.parametrize("address", ["", "nonsense", "host:", ":6379", "host:x", "host:0", "host:70000", "ray://h:1"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(ClusterError, match=r"is no address of a Ray cluster; give HOST:PORT"), connected(address):
        pass


def test_the_environment_names_the_cluster_for_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "elsewhere")
    with pytest.raises(ClusterError, match=r"^'elsewhere' is no address"), connected("auto"):
        pass


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterError, match=f"^no Ray cluster answers at {address} "), connected(address):
        pass


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_another_server(words: bytes) -> None:
    with (
        answering(words) as address,
        pytest.raises(ClusterError, match=f"^what answers at {address} is no Ray cluster"),
        connected(address),
    ):
        pass


def test_a_server_of_ray_s_protocol_is_left_to_ray() -> None:
    words = r"^the Ray cluster 127\.0\.0\.1:\d+ cannot be used \(begun\); give HOST:PORT"
    with (
        answering(b"\0\0\6\4\0\0\0\0\0" + bytes(6)) as address,
        pytest.raises(ClusterError, match=words),
        connected(address),
    ):
        pass


def test_without_the_package_nothing_is_begun(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    with pytest.raises(ClusterError, match=r"^--ray needs the package ray; install it with: pip install ray$"):
        convert(source, folder / "m.gguf", ConversionOptions(ray="auto"))
    assert not list(folder.iterdir())


def test_files_are_the_same_only_if_size_time_and_head_are(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"some bytes")
    seen = SharedFile.of(file)
    seen.check()
    status = file.stat()
    for content, modified in ((b"some bytes", 1), (b"some other", status.st_mtime_ns), (b"more", status.st_mtime_ns)):
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, modified))
        with pytest.raises(ClusterError, match=rf"^the node .+ sees another {file} than the machine that converts"):
            seen.check()
    file.unlink()
    with pytest.raises(ClusterError, match=rf"^the node .+ cannot read {file} \(No such file"):
        seen.check()
