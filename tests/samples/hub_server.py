"""A stand-in for the Hugging Face Hub on this machine, as far as huggingface_hub asks it when it downloads a model."""

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = 4096
"""Bytes from which on a file is in LFS."""


@dataclass
class Repository:
    """A model on the hub."""

    files: dict[str, bytes]
    base_model: str | None = None
    gate: str | None = None
    """The token that opens its files, to whom they are not open."""
    branches: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Of files that are told to be larger than they are."""

    def __post_init__(self) -> None:
        self.branches.setdefault("main", self.commit)
        self.history = {self.commit: self.files}

    @property
    def commit(self) -> str:
        """Of its files as they are."""
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()

    def change(self, files: dict[str, bytes]) -> None:
        """Put these files in place of all, at a new commit of the main branch."""
        self.files = files
        self.branches["main"] = self.commit
        self.history[self.commit] = files


@dataclass
class Hub:
    """A running server."""

    endpoint: str
    home: Path
    """HF_HOME of its users."""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    """`METHOD /path` of each so far, and the range that is asked for."""
    breaks_after: int | None = None
    """The next file in LFS breaks off after so many bytes."""
    is_down: bool = False
    """Whether it answers with status 503."""
    stalls: bool = False
    """Whether it sends half of a file in LFS and then nothing, for as long as it runs."""
    stalled: threading.Event = field(default_factory=threading.Event)
    """That it does."""
    closes: threading.Event = field(default_factory=threading.Event)

    def add(self, id: str, files: dict[str, bytes], **more: str) -> Repository:
        self.repositories[id] = Repository(files, **more)  # type: ignore[arg-type]
        return self.repositories[id]

    @property
    def environment(self) -> dict[str, str]:
        """For programs that are to ask this hub, and no other."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return kept | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(self.home),
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def downloads(self) -> list[str]:
        """Names of the files that were downloaded so far, in any order."""
        gets = [request for request in self.requests if request.startswith("GET ") and "/resolve/" in request]
        return sorted(request.split("/", 5)[-1] for request in gets)


@contextmanager
def running_hub(home: Path) -> Iterator[Hub]:
    """An empty hub, gone after the context."""

    class Handler(_Handler):
        hub: Hub

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}", home)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield Handler.hub
        finally:
            Handler.hub.closes.set()
            server.shutdown()
            thread.join()


@contextmanager
def hub_of_this_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub for this process, and for those that it starts."""
    with running_hub(home) as hub:
        for name in os.environ.keys() - hub.environment.keys():
            monkeypatch.delenv(name)
        for name, value in hub.environment.items():
            monkeypatch.setenv(name, value)
        # huggingface_hub reads the environment once
        monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing is printed."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        self.hub.requests.append(f"{self.command} {url.path} {self.headers.get('Range', '')}".rstrip())
        if self.hub.is_down:
            self._send(503, b"down for maintenance")
            return
        api, *rest = url.path.removeprefix("/").split("/")
        if api == "api":
            _, organisation, name, *more = rest
            revision = unquote(more[1]) if more else "main"
        else:
            organisation, (name, _, revision, *more) = api, rest
            revision = unquote(revision)
        id = f"{organisation}/{name}"
        repository = self.hub.repositories.get(id)
        if repository is None:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
            return
        if revision not in (*repository.history, *repository.branches):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        commit = repository.branches.get(revision, revision)
        if api == "api":
            self._list(id, commit, repository, "blobs" in parse_qs(url.query))
        elif repository.gate is not None and self.headers.get("Authorization") != f"Bearer {repository.gate}":
            self._send(401, b"", {"X-Error-Code": "GatedRepo"})
        else:
            self._file(commit, repository.history[commit].get("/".join(map(unquote, more))))

    def _list(self, id: str, commit: str, repository: Repository, blobs: bool) -> None:
        files = []
        for name, data in repository.history[commit].items():
            file: dict[str, object] = {"rfilename": name}
            if blobs:
                size = repository.sizes.get(name, len(data))
                file |= {"size": size, "blobId": _git_id(data)}
                if size >= LARGE:
                    file["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
            files.append(file)
        card = {"base_model": repository.base_model} if repository.base_model else {}
        about = {"id": id, "modelId": id, "sha": commit, "siblings": files, "cardData": card, "tags": []}
        self._send(200, json.dumps(about).encode(), {"Content-Type": "application/json"})

    def _file(self, commit: str, data: bytes | None) -> None:
        if data is None:
            self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        is_large = len(data) >= LARGE
        tag = hashlib.sha256(data).hexdigest() if is_large else _git_id(data)
        head = {"ETag": f'"{tag}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if is_large:
            head |= {"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{tag}"'}
        start = 0
        if wanted := self.headers.get("Range"):
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            head["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        end = None
        if self.command == "GET" and is_large and self.hub.stalls:
            self._send(200, data, head, len(data) // 2)
            self.hub.stalled.set()
            self.hub.closes.wait()
            return
        if self.command == "GET" and is_large and self.hub.breaks_after is not None:
            end, self.hub.breaks_after = start + self.hub.breaks_after, None
        self._send(206 if wanted else 200, data[start:], head, None if end is None else end - start)

    def _send(self, status: int, body: bytes, head: dict[str, str] | None = None, sent: int | None = None) -> None:
        """`sent` bytes of the body alone, and the line goes dead."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(head or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])
            self.close_connection = sent is not None


def _git_id(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
