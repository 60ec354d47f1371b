"""What llama.cpp's converter leaves out of a folder without a word, and what is made of it instead."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from converter.ingest.hf_folder import HfFolder
from converter.ingest.safetensors_folder import INDEX, StoredTensor

_SENSES = re.compile(
    r"vision[._]|visual\.|audio[._]|talker\.|token2wav\.|code2wav\.|projector\.|patch_(?:embed|merge)|"
    r"model\.connector\.|pre_mm_projector_norm|image_newline|view_seperator|"
    r"\A(?:sound_encoder|sound_projection|speech_embeddings)\.|\A(?:vit|vpm|siglip2|conformer|resampler|merger)\."
)
"""Names of tensors for images and sound, as in its TextModel.filter_tensors."""
_MORE_TOKENS = re.compile(r"(?:\A|\.)mtp\b|nextn")
"""Names of tensors for multi-token prediction."""
_COPIES = re.compile(r"\A(?:consolidated|adapter_)|\Amodel\.")
"""Names of files with the same model in another layout or type, or with none."""


def left_out(folder: HfFolder, llama_dir: Path, *, tells_of_senses: bool = True) -> Iterator[str]:
    """Sentences on parts of a model that its GGUF will not have, known before it is made."""
    senses = sense_tensors(folder)
    if senses and tells_of_senses:
        way = (
            "convert_eoq.py writes them to a file for --mmproj unless it is given --mmproj none"
            if makes_projector(folder, llama_dir)
            else "llama.cpp's converter makes no file for --mmproj of this architecture"
        )
        yield f"{counted(t.name for t in senses)} for images or sound, left out of the model; {way}"
    read = {t.file.path.name for t in folder.tensors}
    for file in sorted(folder.path.glob("*.safetensors")) if read else ():
        if file.name in read or _COPIES.match(file.name):
            continue
        has_index = (folder.path / INDEX).exists()
        way = f"add its tensors to {INDEX}" if has_index else f"rename it to model-{file.name}"
        yield f"{file.name} is no part of the model that is read; to have it read, {way}"


def not_taken_over(folder: HfFolder, names: Collection[str]) -> Iterator[str]:
    """Sentences on parts that a GGUF with tensors of these `names` lacks."""
    predictors = [t.name for t in folder.tensors if _MORE_TOKENS.search(t.name)]
    if predictors and not any(_MORE_TOKENS.search(name) for name in names):
        yield (
            f"{counted(predictors)} for multi-token prediction, which llama.cpp's converter does not take over for "
            "this architecture"
        )


def counted(names: Iterable[str]) -> str:
    """Of these tensors, in words that a predicate follows."""
    names = list(names)
    return f"{names[0]} is" if len(names) == 1 else f"{len(names)} tensors, such as {names[0]}, are"


def sense_tensors(folder: HfFolder) -> list[StoredTensor]:
    """The tensors for images and sound."""
    return [t for t in folder.tensors if _SENSES.search(t.name)]


def makes_projector(folder: HfFolder, llama_dir: Path) -> bool:
    """Whether llama.cpp's converter makes files for --mmproj of such models."""
    vision = folder.config.get("vision_config")
    named = vision.get("architectures") if isinstance(vision, dict) else None
    architecture = (named or folder.config.get("architectures") or [""])[0]
    # the table of what it makes such files for
    table = llama_dir / "conversion" / "__init__.py"
    return table.exists() and f'"{architecture}"' in table.read_text().partition("MMPROJ_MODEL_MAP")[2]
