"""From a model on the Hugging Face Hub to a folder in the hub's cache: asked for, checked, downloaded."""

import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from converter.errors import HubError
from converter.ingest.hf_folder import TRANSFORMERS, layout_of, read_config
from converter.ingest.hub import downloader
from converter.ingest.hub.choice import HubFile, check_can_be_read, small_files, weight_files
from converter.ingest.hub.names import HubModel, HubRevision
from converter.ingest.safetensors_folder import read_index
from converter.ingest.stored_quantization import check_not_quantized
from converter.ingest.watched import run_watched
from converter.options import SourceAccess
from llama_programs.find import find_llama_dir
from llama_programs.run import ending
from output_files.claim import keep
from output_files.target import check_space
from terminal.progress import Progress

_log = logging.getLogger("eoq")
_PATIENCE = 10.0
"""Seconds that the hub gets to answer."""
_NO_ANSWER = ("offline", "unreachable", "answer")
"""Failures that say nothing of the model, so that the cache may serve."""


@dataclass(frozen=True)
class _Listing:
    """What the hub says of a revision."""

    commit: str
    files: Mapping[str, HubFile]
    bases: tuple[str, ...]
    """Ids of models that it says it is made of."""


class _Failure(Exception):
    """A failure of huggingface_hub, as `downloader.failure_of` has it."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


def local_path(
    named: Path | HubModel,
    access: SourceAccess,
    beside: Path,
    progress: Progress,
    check: Callable[[HubRevision], None] | None = None,
) -> Path:
    """Where a model lies on this machine; one of the hub is fetched as `fetch_model` does."""
    return named if isinstance(named, Path) else fetch_model(named, access, beside, progress, check)


def fetch_model(
    model: HubModel,
    access: SourceAccess,
    beside: Path,
    progress: Progress,
    check: Callable[[HubRevision], None] | None = None,
) -> Path:
    """The folder in the cache with all that a conversion reads; what it lacks is downloaded first.

    What the small files tell against the model is said before any weights are downloaded, and so is too little room for
    them and for an intermediate GGUF in the folder `beside`. Before anything is downloaded, `check` hears of what it
    is, and may raise an error. Where the hub does not answer, the cache alone serves. Raises HubError, SourceError,
    TargetError or NoProgramError.
    """
    find_llama_dir(access.llama_dir)
    try:
        listing = _asked(model)
    except _Failure as failure:
        folder = _cached(model, failure)
        _check_complete(model, folder, access, failure)
        return folder
    if check is not None:
        check(HubRevision(model.id, listing.commit))
    layout = layout_of(access)
    check_can_be_read(model, listing.files, listing.bases, layout)
    folder = _downloaded(model, model.revision, small_files(listing.files), listing)
    index = _checked_index(folder, access)
    weights = [listing.files[name] for name in weight_files(model, listing.files, index, layout)]
    if any(not (folder / file.name).exists() for file in weights):
        _download_weights(model, folder, weights, listing, access.work_dir or beside, progress)
    return folder


def fetch_config(model: HubModel) -> Path:
    """The config.json of a model, in the cache; nothing else is downloaded. Raises HubError."""
    try:
        listing = _asked(model)
    except _Failure as failure:
        path = _cached(model, failure) / TRANSFORMERS.config
        if not path.exists():
            raise _error(model, failure) from None
        return path
    if TRANSFORMERS.config not in listing.files:
        raise HubError(f"{model.id} is no Hugging Face model: it has no {TRANSFORMERS.config}")
    return _downloaded(model, model.revision, [TRANSFORMERS.config], listing) / TRANSFORMERS.config


def _asked(model: HubModel) -> _Listing:
    """Raises HubError, or _Failure where the cache may serve."""
    from huggingface_hub import HfApi

    try:
        info = HfApi().model_info(model.id, revision=model.revision, files_metadata=True, timeout=_PATIENCE)
        if info.sha is None or info.siblings is None:
            raise ValueError("it lists no files")
        files = {}
        for file in info.siblings:
            blob = file.lfs.sha256 if file.lfs else file.blob_id
            files[file.rfilename] = HubFile(file.rfilename, max(0, int(file.size or 0)), str(blob))
    except Exception as error:
        failure = _Failure(*downloader.failure_of(error))
        if failure.kind in _NO_ANSWER:
            raise failure from None
        raise _error(model, failure) from None
    base = info.card_data.get("base_model") if info.card_data else None
    bases = [base] if isinstance(base, str) else base if isinstance(base, list) else []
    return _Listing(info.sha, files, tuple(map(str, bases)))


def _cached(model: HubModel, failure: _Failure) -> Path:
    """The folder of the cache, which may lack files. Raises HubError."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model.id, revision=model.revision, local_files_only=True))
    except LocalEntryNotFoundError:
        raise _error(model, failure) from None
    if failure.kind != "offline":
        _log.warning("note: %s; %s at %s is taken from its cache", _silence(failure), model.id, folder.name)
    return folder


def _check_complete(model: HubModel, folder: Path, access: SourceAccess, failure: _Failure) -> None:
    """Raises HubError for a folder of the cache that lacks weights, or a configuration to read them by."""
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    layout = layout_of(access)
    lacking: list[str] = [] if layout.config in here else [layout.config]
    if not lacking:
        index = _checked_index(folder, access)
        weights = sorted(set(index.values())) or weight_files(model, here, {}, layout)
        weights = weights or [f"{layout.weights}.safetensors"]
        lacking = [name for name in weights if name not in here]
    if lacking:
        raise _error(model, failure, f", whose cache lacks {', '.join(lacking)}")


def _checked_index(folder: Path, access: SourceAccess) -> dict[str, str]:
    """Tensor to file, of a folder whose small files tell nothing against a conversion. Raises SourceError."""
    layout = layout_of(access)
    config = read_config(folder, layout)
    check_not_quantized(folder, config, (), allow_requantize=access.allow_requantize, keeps_mxfp4=access.keeps_mxfp4)
    return read_index(folder) if layout is TRANSFORMERS else {}


def _download_weights(
    model: HubModel, folder: Path, weights: Sequence[HubFile], listing: _Listing, beside: Path, progress: Progress
) -> None:
    blobs = folder.parent.parent / "blobs"

    def received() -> int:
        return sum(_size_of(blobs, file) for file in weights)

    size, had = sum(file.size for file in weights), received()
    check_space(
        (folder, size - had, f"the download of {model.id}"), (beside, size, "the intermediate GGUF, about as large,")
    )
    progress.stage("downloading the model", size)
    progress.advance(had)
    try:
        _downloaded(model, listing.commit, [file.name for file in weights], listing, received, progress)
    except BaseException:
        if received():
            keep(f"what was downloaded of {model.id} is kept in the hub's cache, and the same command goes on with it")
        raise


def _size_of(blobs: Path, file: HubFile) -> int:
    """Bytes of a file that are there, whole or in part."""
    for path in (blobs / file.blob, blobs / f"{file.blob}.incomplete"):
        with suppress(OSError):
            return min(path.stat().st_size, file.size)
    return 0


def _downloaded(
    model: HubModel,
    revision: str,
    names: Collection[str],
    listing: _Listing,
    received: Callable[[], int] = lambda: 0,
    progress: Progress | None = None,
) -> Path:
    """Download what the cache lacks of these files. Returns the folder of the revision. Raises HubError."""
    command = [sys.executable, "-P", downloader.__file__, model.id, revision, *names]
    environment = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        code = run_watched(command, environment, out.fileno(), log.fileno(), received, progress or Progress())
        out.seek(0)
        log.seek(0)
        said, errors = out.read().decode(errors="replace"), log.read().decode(errors="replace")
    try:
        answer = json.loads(said)
    except ValueError:
        last = next(reversed(errors.split("\n")[:-1]), "")
        raise _error(model, _Failure("other", f"the program for it {ending(code)}: {last}")) from None
    if "folder" not in answer:
        failure = _Failure(answer["kind"], answer["reason"])
        if failure.kind in _NO_ANSWER:
            raise _broken_off(model, failure.reason)
        raise _error(model, failure)
    folder = Path(answer["folder"])
    if folder.name != listing.commit:
        raise HubError(f"{model.id} was changed on the hub at this moment; start again")
    lacking = [name for name in names if not (folder / name).exists()]
    if lacking:  # where the hub stops answering, huggingface_hub gives what there is
        raise _broken_off(model, f"{lacking[0]} did not arrive")
    return folder


def _broken_off(model: HubModel, why: str) -> HubError:
    return HubError(f"the download of {model.id} broke off: {why.rstrip('.')}; try again")


def _silence(failure: _Failure) -> str:
    """Why nothing is known from the hub, in words."""
    from huggingface_hub import constants

    if failure.kind == "offline":
        return "HF_HUB_OFFLINE is set"
    return f"the hub ({constants.ENDPOINT}) {'answers' if failure.kind == 'answer' else 'cannot be reached'}: " + (
        failure.reason.rstrip(".")
    )


def _error(model: HubModel, failure: _Failure, lacks: str = "") -> HubError:
    """What a user can do about a failure; `lacks` follows the name of the model."""
    from huggingface_hub import constants

    page = f"{constants.ENDPOINT}/{model.id}"
    if failure.kind == "gated":
        return HubError(
            f"{model.id} is gated: accept its licence on {page}, log in with `hf auth login`, and try again"
        )
    if failure.kind == "revision":
        return HubError(f"{model.id} has no revision {model.revision}; {page}/tree/main lists branches and tags")
    if failure.kind == "repository":
        return HubError(
            f"{model.id} is no file or folder here, and no model of that id can be read on the hub "
            f"({constants.ENDPOINT}); is it misspelt? If it is private, log in with `hf auth login`"
        )
    if failure.kind == "token":
        return HubError(
            f"the hub refuses your token ({failure.reason}): log in anew with `hf auth login`, or unset HF_TOKEN"
        )
    if failure.kind == "disk":
        return HubError(f"the disk of the hub's cache, {constants.HF_HUB_CACHE}, is full; make room, or set HF_HOME")
    if failure.kind == "offline":
        where = lacks or f" at {model.revision}, which is neither a path here nor in {constants.HF_HUB_CACHE}"
        return HubError(f"HF_HUB_OFFLINE is set, so nothing is downloaded of {model.id}{where}; unset it")
    if failure.kind in _NO_ANSWER:
        where = lacks or f", which is neither a path here nor in {constants.HF_HUB_CACHE}"
        return HubError(f"{_silence(failure)}, so {model.id}{where}, cannot be downloaded; try again later")
    return HubError(f"{model.id} cannot be downloaded: {failure.reason.rstrip('.')}; try again")
