"""What the output's metadata says of the tool, of who made the file, and of an importance matrix."""

import tomllib
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFValueType, GGUFWriter

from converter import ConversionOptions, RoundingOptions, TypeOptions, convert
from converter.errors import ResumeError
from converter.report.metadata import TOOL
from tests.samples.gguf_samples import tiny_model, write_gguf
from tests.unit.converter.plan.planners.test_sized import BreaksOff
from tests.unit.converter.statistics.test_imatrix import write_imatrix

KEYS = "quantize.imatrix."


def test_the_tool_names_the_version_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    assert f"eoq converter {project['version']}" == TOOL


def imatrix_keys(path: Path) -> dict[str, object]:
    fields = gguf.GGUFReader(path).fields
    return {key.removeprefix(KEYS): field.contents() for key, field in fields.items() if key.startswith(KEYS)}


def origin(writer: GGUFWriter) -> None:
    """What a model's card says, who quantised it before, and with what."""
    writer.add_license("apache-2.0")
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, "Base")
    writer.add_base_model_organization(0, "Org")
    writer.add_base_model_repo_url(0, "https://huggingface.co/Org/Base")
    writer.add_quantized_by("Bob")
    writer.add_string(f"{KEYS}file", "old.gguf")


@pytest.mark.parametrize("datasets", [["/home/ann/news.txt"], [r"C:\Users\ann\news.txt", "other.txt"], []])
def test_an_importance_matrix_is_told_of_as_llama_quantize_does(
    datasets: list[str], tmp_path: Path, folder: Path
) -> None:
    """But for folders."""
    source = write_gguf(tmp_path / "source.gguf", tiny_model(), origin)
    sums = {"blk.0.attn_q.weight.in_sum2": np.ones((1, 128), np.float32)}
    counts = {"blk.0.attn_q.weight.counts": np.full((1, 1), 9, np.float32)}
    statistics = write_imatrix(tmp_path / "i.gguf", {**sums, **counts}, datasets)
    options = ConversionOptions(TypeOptions("eoq5"), statistics=statistics, allow_partial_statistics=True, threads=1)
    target = convert(source, folder / "m.gguf", options).target
    dataset = {"dataset": "news.txt"} if datasets else {}
    assert imatrix_keys(target) == {"file": "i.gguf", **dataset, "entries_count": 1, "chunks_count": 3}
    field = gguf.GGUFReader(target).fields[f"{KEYS}entries_count"]
    assert field.types == [GGUFValueType.UINT32]
    data = target.read_bytes()
    assert str(tmp_path).encode() not in data and b"ann" not in data.lower()


def test_the_origin_of_a_model_is_kept_and_not_its_old_matrix(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model(), origin)
    options = ConversionOptions(rounding=RoundingOptions("nearest", awq=False))
    found = gguf.GGUFReader(convert(source, folder / "m.gguf", options).target).fields
    for key in ("license", "base_model.count", "base_model.0.name", "base_model.0.organization", "quantized_by"):
        assert f"general.{key}" in found
    assert found["general.quantized_by"].contents() == "Bob" and not imatrix_keys(folder / "m.gguf")
    by_ann = ConversionOptions(rounding=options.rounding, quantized_by="Ann")
    again = gguf.GGUFReader(convert(source, folder / "n.gguf", by_ann).target).fields
    assert again["general.quantized_by"].contents() == "Ann"


def test_another_name_is_another_file(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model())
    options = ConversionOptions(rounding=RoundingOptions("nearest", awq=False), quantized_by="Ann")
    with pytest.raises(KeyboardInterrupt):
        convert(source, folder / "m.gguf", options, BreaksOff())
    other = ConversionOptions(rounding=options.rounding, quantized_by="Bob", resume=True)
    with pytest.raises(ResumeError, match="with --quantized-by Ann and not Bob"):
        convert(source, folder / "m.gguf", other)
