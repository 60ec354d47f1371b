"""Models by their id, from a hub on this machine: what is downloaded, what the cache serves for, what is refused."""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.utils._http import reset_sessions

from converter.errors import HubError, OptionError
from converter.ingest import HubModel, HubRevision, hub_revision, named_model
from converter.ingest.hub import fetch_config, fetch_model, model_name
from converter.options import SourceAccess
from eoq_formats.errors import EoqError
from output_files.claim import kept
from terminal.progress import Progress
from tests.samples.hub_server import Hub, Repository, hub_of_this_process

ID = "org/nice-model"
MODEL = HubModel(ID)
CONFIG = json.dumps({"architectures": ["LlamaForCausalLM"]}).encode()
WEIGHTS = b"weights " * 1000
READ = {
    "config.json": CONFIG,
    "tokenizer.json": b"{}",
    "chat_template.jinja": b"{{ x }}",
    "README.md": b"---\nlicense: mit\n---\n",
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    "model.safetensors": WEIGHTS,
}
OTHERS = dict.fromkeys(
    ("pytorch_model.bin", "modeling.py", "model.fp16.safetensors", "consolidated.safetensors", "onnx/m.onnx", "a.gguf"),
    b"x" * 5000,
)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_of_this_process(tmp_path / "home", monkeypatch) as hub:
        kept()
        yield hub
        kept()


@pytest.fixture
def repository(hub: Hub) -> Repository:
    return hub.add(ID, READ | OTHERS)


Fetch = Callable[..., Path]


@pytest.fixture
def fetch(tmp_path: Path, hub: Hub) -> Fetch:
    tree = tmp_path / "llama.cpp"
    tree.mkdir()
    (tree / "convert_hf_to_gguf.py").touch()

    def fetch(id: str = ID, revision: str = "main", progress: Progress | None = None, **more: Any) -> Path:
        access = SourceAccess(llama_dir=tree, **more)
        return fetch_model(HubModel(id, revision), access, tmp_path, progress or Progress())

    return fetch


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Does what HF_HUB_OFFLINE does to a process that starts with it."""

    def set_offline() -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        reset_sessions()

    yield set_offline
    monkeypatch.undo()
    reset_sessions()


@pytest.mark.parametrize("text", ["org/name", "a/b", "Org_1/na.me-2_x", "name/gguf"])
def test_an_id_is_one(text: str) -> None:
    assert named_model(text) == HubModel(text, "main")
    assert named_model(text, "v1") == HubModel(text, "v1")
    assert named_model(Path(text)) == Path(text)


@pytest.mark.parametrize(
    "text",
    [
        *("./org/name", "../name", "/org/name", "~/name", "a/b/c", "org/name/", "name", "org/m.gguf", "m/config.json"),
        *("org/na me", "org/na--me", "org/a..b", "org/name.", "/", "", "org/" + "x" * 100, "org/näme", "org/"),
    ],
)
def test_what_looks_like_a_path_is_one(text: str) -> None:
    assert named_model(text) == Path(text)
    with pytest.raises(OptionError, match="--revision is for a model of the Hugging Face Hub"):
        named_model(text, "main")


def test_what_is_there_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org").mkdir()
    assert named_model("org/name") == HubModel("org/name")
    (tmp_path / "org" / "name").symlink_to("nowhere")
    assert named_model("org/name") == Path("org/name")


def test_an_empty_revision_is_none() -> None:
    with pytest.raises(OptionError, match="--revision is empty"):
        named_model(ID, " ")


def test_files_that_make_the_model_are_downloaded_once(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    heard: list[tuple[str, int]] = []

    class Heard(Progress):
        def stage(self, name: str, total: int) -> None:
            heard.append((name, total))

    folder = fetch(progress=Heard())
    assert heard == [("downloading the model", len(WEIGHTS))]
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == READ
    assert folder == hub.home / "hub" / "models--org--nice-model" / "snapshots" / repository.commit
    assert (folder / "model.safetensors").is_symlink()
    for path in (folder, folder / "config.json"):
        assert hub_revision(path) == HubRevision(ID, repository.commit)
    assert (model_name(folder), hub_revision(hub.home), model_name(hub.home)) == ("nice-model", None, "home")
    assert hub.downloads() == sorted(READ)
    assert fetch(progress=Heard()) == fetch(revision=repository.commit) == folder
    assert hub.downloads() == sorted(READ) and len(heard) == 1


def test_the_shards_of_an_index_alone_are_downloaded(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "mtp.safetensors"}}).encode()
    read = {"config.json": CONFIG, "model.safetensors.index.json": index}
    read |= {"model-1.safetensors": WEIGHTS, "mtp.safetensors": WEIGHTS[1:]}
    repository.change(OTHERS | read)
    folder = fetch()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == read
    assert hub.downloads() == sorted(read)


def test_a_download_is_gone_on_with(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    blobs = hub.home / "hub" / "models--org--nice-model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{digest}.incomplete").write_bytes(WEIGHTS[:3000])
    assert (fetch() / "model.safetensors").read_bytes() == WEIGHTS
    assert f"GET /{ID}/resolve/{repository.commit}/model.safetensors bytes=3000-" in hub.requests


def test_a_download_that_breaks_off(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    blobs = hub.home / "hub" / "models--org--nice-model" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{hashlib.sha256(WEIGHTS).hexdigest()}.incomplete").write_bytes(WEIGHTS[:3000])
    hub.breaks_after = 2000
    with pytest.raises(HubError, match=rf"the download of {ID} broke off: .*; try again\Z"):
        fetch()
    assert kept() == [f"what was downloaded of {ID} is kept in the hub's cache, and the same command goes on with it"]
    assert (fetch() / "model.safetensors").read_bytes() == WEIGHTS


def _config(**more: object) -> dict[str, bytes]:
    config = {"architectures": ["LlamaForCausalLM"], **more}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": WEIGHTS}


_INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
REFUSED: dict[str, tuple[dict[str, bytes], str]] = {
    "GGUF": (
        {"m-Q4_K_M.gguf": b"GGUF", "config.json": b"{}"},
        "ID has GGUF files and no safetensors; convert the original model, org/base, or fetch a GGUF in F32, F16 or "
        "BF16 with `hf download ID FILE`, and give the path that it prints",
    ),
    "pickles": ({"pytorch_model.bin": b"x", "config.json": CONFIG}, "run `hf download ID` and give the folder that it"),
    "nothing": ({"README.md": b"soon"}, "ID is no model that can be converted: it has no model*.safetensors"),
    "a shard is missing": (
        {"config.json": CONFIG, "model.safetensors.index.json": _INDEX, "model-1.safetensors": WEIGHTS},
        "ID is incomplete: model-2.safetensors of model.safetensors.index.json is missing on the hub",
    ),
    "adapter": (
        {"adapter_config.json": b'{"base_model_name_or_path": "org/base"}', "adapter_model.safetensors": WEIGHTS},
        "is an adapter (LoRA or the like) of org/base",
    ),
    "no configuration": ({"model.safetensors": WEIGHTS}, "is no Hugging Face model: it has no config.json"),
    "code": (_config(text_config={"trust_remote_code": True}), "which asks for code of the model's own to be run"),
    "quantised": (_config(quantization_config={"quant_method": "awq"}), "is quantised already (awq, says quantization"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_converted_is_refused_before_its_weights_are_downloaded(
    kind: str, hub: Hub, fetch: Fetch
) -> None:
    files, message = REFUSED[kind]
    hub.add(ID, files, base_model="org/base")
    with pytest.raises(EoqError) as refused:
        fetch()
    assert message.replace("ID", ID) in str(refused.value)
    assert not [name for name in hub.downloads() if name.endswith(".safetensors")]


def test_what_is_not_there(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    there_is_none = "is no file or folder here, and no model of that id can be read on the hub"
    with pytest.raises(HubError, match=f"org/other {there_is_none}"):
        fetch("org/other")
    with pytest.raises(
        HubError, match=f"{ID} has no revision v2; {hub.endpoint}/{ID}/tree/main lists branches and tag"
    ):
        fetch(revision="v2")


def test_a_branch(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    first = repository.commit
    repository.branches["refs/pr/1"] = first
    folder = fetch(revision="refs/pr/1")
    assert folder.name == first
    assert (folder.parents[1] / "refs" / "refs" / "pr" / "1").read_text() == first


def test_a_gate(hub: Hub, repository: Repository, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    repository.gate = "secret"
    with pytest.raises(HubError) as refused:
        fetch()
    assert str(refused.value) == (
        f"{ID} is gated: accept its licence on {hub.endpoint}/{ID}, log in with `hf auth login`, and try again"
    )
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert (fetch() / "model.safetensors").exists()


def test_without_a_network(hub: Hub, repository: Repository, fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    with pytest.raises(HubError) as refused:
        fetch()
    assert str(refused.value) == (
        f"the hub ({nowhere}) cannot be reached: Connection refused, so {ID}, which is neither a path here nor in "
        f"{hub.home}/hub, cannot be downloaded; try again later"
    )


def test_the_cache_serves_where_the_hub_is_silent(
    hub: Hub, repository: Repository, fetch: Fetch, offline: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    folder = fetch()
    hub.is_down = True
    assert fetch() == folder
    silence = f"the hub ({hub.endpoint}) answers: 503 down for maintenance"
    assert caplog.messages == [f"note: {silence}; {ID} at {repository.commit} is taken from its cache"]
    with pytest.raises(HubError) as refused:
        fetch("org/other")
    assert str(refused.value).startswith(f"{silence}, so org/other, which is neither a path here nor in")
    offline()
    asked = len(hub.requests)
    assert fetch() == folder and fetch_config(MODEL) == folder / "config.json"
    with pytest.raises(HubError) as refused:
        fetch("org/other")
    assert str(refused.value) == (
        "HF_HUB_OFFLINE is set, so nothing is downloaded of org/other at main, which is neither a path here nor in "
        f"{hub.home}/hub; unset it"
    )
    (folder / "model.safetensors").unlink()
    with pytest.raises(HubError, match=f"of {ID}, whose cache lacks model.safetensors; unset it"):
        fetch()
    assert len(caplog.messages) == 1 and len(hub.requests) == asked


def test_mistral_format(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    with pytest.raises(HubError, match=f"{ID} is no Hugging Face model: it has no params.json"):
        fetch(hf_options=("mistral-format",))
    read = {"params.json": b'{"dim": 128}', "tekken.json": b"{ }", "consolidated.safetensors": WEIGHTS[1:]}
    repository.change(READ | OTHERS | read)
    folder = fetch(hf_options=("mistral-format",))
    assert (folder / "consolidated.safetensors").read_bytes() == WEIGHTS[1:]
    assert not (folder / "model.safetensors").exists() and (folder / "tekken.json").exists()


def test_too_little_room(hub: Hub, repository: Repository, fetch: Fetch) -> None:
    repository.sizes = {"model.safetensors": 1 << 50}
    with pytest.raises(
        EoqError, match=f"download of {ID} and the intermediate GGUF, about as large, need 2097152.00 GiB"
    ):
        fetch()


def test_a_configuration_alone(hub: Hub, repository: Repository) -> None:
    assert fetch_config(MODEL).read_bytes() == CONFIG
    assert hub.downloads() == ["config.json"]
    repository.change({"README.md": b""})
    with pytest.raises(HubError, match=f"{ID} is no Hugging Face model: it has no config.json"):
        fetch_config(MODEL)
