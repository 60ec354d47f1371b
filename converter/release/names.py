"""What the files of a release are called: NAME-EOQ4T.gguf, so that `llama-cli -hf USER/REPO:EOQ4T` finds the right one.

llama.cpp looks for the tag and a dot or dash behind it, anywhere in the names of a repository's files and in any case,
and passes over files whose names have certain words (find_best_model in its common/download.cpp).
"""

import re
from pathlib import Path

from gguf.utility import naming_convention

from converter.ingest import hub_revision
from gguf_files.output.splits import SPLIT_NAME
from gguf_files.source import Source

_UNUSUAL = re.compile(r"[^A-Za-z0-9._-]+")
_PRECISION = re.compile(r"[-.](F32|F16|BF16)\Z", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|imatrix|(?:mtp|eagle3|dflash|dspark)-")
"""Words in names of files that llama.cpp does not take for models; in capitals they are not noticed."""
_LONGEST = 150
"""Letters, so that there is room for the type, for the number of a split, and for `.report.json`."""


def model_name(source: Source) -> str:
    """The name of the files of an open model without their type, as llama.cpp's converter makes it of the metadata.

    Where that has neither `general.basename` nor `general.name`, it is the name of the folder or file.
    """
    keys = ("name", "basename", "finetune", "version", "size_label")
    name, base, *others = (_text(source, f"general.{key}") for key in keys)
    if name is None and base is None:
        called = _called(source.named)
    else:
        called = naming_convention(name, base, *others, output_type=None)
    cleaned = _UNUSUAL.sub("-", called).strip("-.")[:_LONGEST].rstrip("-.")
    return _NO_MODEL.sub(lambda found: found[0].upper(), cleaned) or "model"


def file_name(name: str, type_name: str) -> str:
    """`NAME-EOQ4T.gguf` for the type `eoq4t`."""
    return f"{name}-{type_name.upper()}.gguf"


def _text(source: Source, key: str) -> str | None:
    value = source.value(key)
    return value if isinstance(value, str) and value.strip() else None


def _called(path: Path) -> str:
    if revision := hub_revision(path):
        return revision.name
    if path.is_dir():
        return path.resolve().name
    split = SPLIT_NAME.fullmatch(path.name)
    return _PRECISION.sub("", split["stem"] if split else path.name.removesuffix(".gguf"))
