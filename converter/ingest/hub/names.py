"""What a user may call a model: a path, or `org/name` on the Hugging Face Hub; and what a folder of its cache is of."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from converter.errors import OptionError

MAIN = "main"
"""The branch that is meant where none is named."""
_PATH_STARTS = (".", "/", "~")
_PATH_ENDS = (".gguf", ".safetensors", ".bin", ".json")
_ID = re.compile(r"(?=.{3,96}\Z)(?!.*(?:--|\.\.))\w[\w.-]*/\w(?:[\w.-]*\w)?", re.ASCII)
"""As huggingface_hub has it."""
_SNAPSHOT = re.compile(r"/models--(?P<repository>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})(?:/|\Z)")


@dataclass(frozen=True)
class HubModel:
    """A model on the hub, as the user names it."""

    id: str
    """`org/name`."""
    revision: str = MAIN
    """Branch, tag or commit."""


@dataclass(frozen=True)
class HubRevision:
    """One state of a model on the hub."""

    id: str
    """`org/name`; `name` alone for a few old ones."""
    commit: str
    """40 hexadecimal digits."""

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    @property
    def url(self) -> str:
        """Its page."""
        return f"https://huggingface.co/{self.id}/tree/{self.commit}"


def named_model(model: Path | str, revision: str | None = None) -> Path | HubModel:
    """The path that is meant, or the model on the hub. A Path is always a path; text is one as the module says.

    Text is a path where there is something of that name, where it begins with `.`, `/` or `~`, ends as files of models
    do, or is not `org/name` as the hub allows it. Raises OptionError for a revision of a path.
    """
    if revision is not None and not revision.strip():
        raise OptionError("--revision is empty; give a branch, a tag or a commit")
    if isinstance(model, str) and _is_id(model):
        return HubModel(model, revision or MAIN)
    if revision is not None:
        raise OptionError(
            f"--revision is for a model of the Hugging Face Hub (org/name), and {model} is a path; leave it out"
        )
    return Path(model)


def _is_id(text: str) -> bool:
    if os.path.lexists(text) or text.startswith(_PATH_STARTS) or text.endswith(_PATH_ENDS) or text.count("/") != 1:
        return False
    return _ID.fullmatch(text) is not None


def hub_revision(path: Path) -> HubRevision | None:
    """What a folder or file of the hub's cache is of; None for anything that lies elsewhere."""
    # files of the cache are links out of the folder that says it; a link to the folder says nothing
    for place in (path.absolute(), path.resolve()):
        if found := _SNAPSHOT.search(str(place)):
            return HubRevision(found["repository"].replace("--", "/"), found["commit"])
    return None


def model_name(folder: Path) -> str:
    """What a model folder is called: in the cache of the hub as its repository, elsewhere as the folder."""
    revision = hub_revision(folder)
    return revision.name if revision else folder.resolve().name
