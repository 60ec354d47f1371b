"""Names of a release's files, and the rule by which llama.cpp finds one of them."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFWriter

from converter.release.names import file_name, model_name
from eoq_formats.types import WEIGHT_TYPES
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import tiny_model, write_gguf


def found_by(tag: str, files: list[str]) -> str | None:
    """The file that llama.cpp takes for `-hf USER/REPO:TAG`: the first with the tag and a dot or dash behind it."""
    passed_over = ("mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-")
    models = [file for file in files if file.endswith(".gguf") and not any(word in file for word in passed_over)]
    matching = (file for file in models if re.search(tag + "[.-]", file, re.IGNORECASE))
    return next((file for file in matching if not re.search(r"-\d{5}-of-", file) or "-00001-of-" in file), None)


def named(*, basename: str | None = None, name: str | None = None, **others: str) -> Callable[[GGUFWriter], None]:
    def metadata(writer: GGUFWriter) -> None:
        for key, value in {"basename": basename, "name": name, **others}.items():
            if value is not None:
                writer.add_string(f"general.{key}", value)

    return metadata


@pytest.mark.parametrize("name", ["Qwen2.5-Coder-1.5B-Instruct", "Model-EOQ", "m_4", "imatrix-mtp-mmproj"])
@pytest.mark.parametrize("ends", [[".gguf"], ["-00001-of-00002.gguf", "-00002-of-00002.gguf"]])
def test_llama_cpp_finds_each_type_and_no_other(name: str, ends: list[str], tmp_path: Path) -> None:
    name = model_name(open_gguf(write_gguf(tmp_path / "m.gguf", tiny_model(), named(name=name))))
    stems = {t.name: file_name(name, t.name.lower()).removesuffix(".gguf") for t in WEIGHT_TYPES}
    files = [stem + end for stem in stems.values() for end in ends]
    for listed in (files, files[::-1]):
        for tag, stem in stems.items():
            assert found_by(tag, listed) == stem + ends[0]
            assert found_by(tag.lower(), listed) == stem + ends[0]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        (named(basename="Qwen2.5 Coder", size_label="1.5B", finetune="Instruct"), "Qwen2.5-Coder-1.5B-Instruct"),
        (named(name="Tiny model", version="v2"), "Tiny-model-v2"),
        (named(name="../../etc/passwd\n|`x`"), "etc-passwd-x"),
        (named(name="mtp-one"), "MTP-one"),
        (named(name="模型"), "model"),
        (named(name="x" * 300), "x" * 150),
        (named(name=" "), "my-model"),
        (named(), "my-model"),
    ],
)
def test_the_name_is_that_of_the_metadata(
    metadata: Callable[[GGUFWriter], None], expected: str, tmp_path: Path
) -> None:
    assert model_name(open_gguf(write_gguf(tmp_path / "my model-F16.gguf", tiny_model(), metadata))) == expected


def test_a_folder_of_the_hub_gives_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--org--Some-1B" / "snapshots" / ("0" * 40)
    folder.mkdir(parents=True)
    plain = tmp_path / "another one"
    plain.mkdir()
    gguf = write_gguf(tmp_path / "source.gguf", tiny_model())
    assert model_name(open_gguf(gguf, named=folder)) == "Some-1B"
    assert model_name(open_gguf(gguf, named=plain)) == "another-one"
