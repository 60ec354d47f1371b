"""Whole conversions of tiny GGUF files through the public API."""

import zlib
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType, GGUFWriter

from converter import (
    ConversionOptions,
    ConversionProgress,
    RoundingOptions,
    SourceAccess,
    TensorRecord,
    TypeOptions,
    convert,
    dry_run,
)
from converter.errors import OptionError
from converter.plan import Proposal, Proposals, Rule
from converter.type_choice import parse_type
from eoq_formats import codebooks, kernels
from eoq_formats.errors import NonFiniteWeightError
from eoq_formats.types import weight_type
from gguf_files.errors import QuantizedSourceError, SourceError
from gguf_files.header import parse_header
from gguf_files.tensor_types import type_name
from output_files.errors import TargetError
from terminal.cores import available_cores
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf
from tests.unit.gguf_files.test_header import every_kind_of_value
from tests.unit.gguf_files.test_source import write_splits


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "source.gguf", tiny_model())


def to_nearest(
    types: TypeOptions | None = None, *, threads: int | None = None, allow_requantize: bool = False
) -> ConversionOptions:
    return ConversionOptions(
        types or TypeOptions(),
        RoundingOptions("nearest", awq=False),
        source=SourceAccess(allow_requantize),
        threads=threads or available_cores(),
    )


def metadata_of(path: Path) -> dict[str, object]:
    fields = gguf.GGUFReader(path).fields
    return {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}


def test_the_tensors_are_those_that_the_kernels_make(source: Path, folder: Path) -> None:
    report = convert(source, folder / "m.gguf", to_nearest())
    tensors = {t.name: t for t in gguf.GGUFReader(folder / "m.gguf").tensors}
    assert list(tensors) == list(tiny_model())
    for name, weights in tiny_model().items():
        t = tensors[name]
        assert tuple(t.shape[::-1]) == weights.shape
        if "norm" in name or "gate_inp" in name:
            assert (t.data == weights).all()
            continue
        kind = weight_type("eoq6" if name == "output.weight" else "eoq4")
        rows = weights.astype(np.float32).reshape(-1, weights.shape[-1])
        assert t.tensor_type == kind.id
        assert t.data.tobytes() == kernels.quantize(rows, kind).data.tobytes()
    by_name = {r.plan.tensor.name: r for r in report.records}
    assert by_name["output.weight"].error_db == pytest.approx(-32.2, abs=1)
    assert by_name["blk.0.attn_q.weight"].error_db == pytest.approx(-20.5, abs=1)
    assert by_name["blk.0.attn_norm.weight"].error_db is None
    assert report.target_bytes == (folder / "m.gguf").stat().st_size and report.source_bytes == source.stat().st_size


def test_all_bytes_are_the_same_whatever_the_threads_and_the_place(source: Path, folder: Path, tmp_path: Path) -> None:
    types = TypeOptions("eoq3", tensor_types=("ffn_down=q8_0",))
    convert(source, folder / "one.gguf", to_nearest(types, threads=1))
    moved = tmp_path / "elsewhere.gguf"
    source.rename(moved)
    convert(moved, folder / "two.gguf", to_nearest(types, threads=2))
    assert (folder / "one.gguf").read_bytes() == (folder / "two.gguf").read_bytes()


def test_metadata_of_the_source_survives_byte_for_byte(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model(), every_kind_of_value)
    convert(source, folder / "m.gguf", to_nearest())
    before, after = (parse_header(path.read_bytes()).metadata for path in (source, folder / "m.gguf"))
    assert before == after[: len(before)]


def test_metadata_says_what_the_file_is(tmp_path: Path, folder: Path) -> None:
    def old_entries(writer: GGUFWriter) -> None:
        writer.add_file_type(1)
        writer.add_quantization_version(1)
        writer.add_string("eoq.method", "something else")
        writer.add_name("Tiny")

    source = write_gguf(tmp_path / "source.gguf", tiny_model(), old_entries)
    convert(source, folder / "m.gguf", to_nearest(TypeOptions(output_type="eoq5", token_embd_type="f16")))
    reader, found = gguf.GGUFReader(folder / "m.gguf"), metadata_of(folder / "m.gguf")
    assert found.pop("eoq.codebook.4") == codebooks.codebook(4).levels.tolist()
    assert found.pop("eoq.codebook.5") == codebooks.codebook(5).levels.tolist()
    assert found.pop("eoq.checksums") == [zlib.crc32(t.data.tobytes()) for t in reader.tensors]
    assert str(found.pop("eoq.tool")).startswith("eoq converter ")
    assert found == {
        "general.architecture": "llama",
        "general.name": "Tiny",
        "general.quantization_version": 2,
        "general.file_type": gguf.LlamaFileType["MOSTLY_EOQ4"],
        "eoq.format_version": 1,
        "eoq.types": ["eoq4", "eoq5"],
        "eoq.method": "rtn",
        "eoq.options": ["type=eoq4", "output-type=eoq5", "token-embd-type=f16"],
        "eoq.source_types": ["f16"],
    }
    types = reader.fields["eoq.codebook.4"].types
    assert types == [GGUFValueType.ARRAY, GGUFValueType.INT8]


def test_splits_become_one_file(tmp_path: Path, source: Path, folder: Path) -> None:
    first = write_splits(tmp_path)[0]
    convert(first, folder / "from_splits.gguf", to_nearest())
    convert(source, folder / "from_one.gguf", to_nearest())
    joined, whole = (gguf.GGUFReader(folder / name) for name in ("from_splits.gguf", "from_one.gguf"))
    assert not [key for key in joined.fields if key.startswith("split.")]
    assert [(t.name, t.data.tobytes()) for t in joined.tensors] == [(t.name, t.data.tobytes()) for t in whole.tensors]


def test_alignment_of_the_source_is_kept(tmp_path: Path, folder: Path) -> None:
    source = write_gguf(tmp_path / "source.gguf", tiny_model(), lambda w: w.add_custom_alignment(512))
    convert(source, folder / "m.gguf", to_nearest())
    reader = gguf.GGUFReader(folder / "m.gguf")
    assert reader.alignment == 512 and all(t.data_offset % 512 == 0 for t in reader.tensors)


def test_a_quantised_source(tmp_path: Path, folder: Path) -> None:
    tensors = {"output.weight": as_type(random_weights(1, 40, 128), T.Q4_1)}
    source = write_gguf(tmp_path / "source.gguf", tensors)
    with pytest.raises(QuantizedSourceError, match=r"output.weight"):
        convert(source, folder / "m.gguf", to_nearest())
    convert(source, folder / "m.gguf", to_nearest(allow_requantize=True))
    assert metadata_of(folder / "m.gguf")["eoq.source_types"] == ["q4_1"]
    with pytest.raises(QuantizedSourceError, match="eoq6"):
        convert(folder / "m.gguf", folder / "again.gguf", to_nearest())
    assert sorted(path.name for path in folder.iterdir()) == ["m.gguf", "m.report.json"]


def test_progress_is_told(source: Path, folder: Path) -> None:
    class Listener(ConversionProgress):
        def __init__(self) -> None:
            self.totals: dict[str, int] = {}
            self.done = 0
            self.records: list[TensorRecord] = []

        def stage(self, name: str, total: int) -> None:
            self.totals[name] = total

        def advance(self, amount: int) -> None:
            self.done += amount

        def tensor_done(self, record: TensorRecord, number: int, count: int) -> None:
            self.records.append(record)
            assert (number, count) == (len(self.records), len(tiny_model()))

    listener = Listener()
    report = convert(source, folder / "m.gguf", to_nearest(), listener)
    weights = sum(w.size for w in tiny_model().values())
    assert report.weights == weights
    assert listener.totals == {"quantising": listener.done, "checking the output": 0} and listener.done > weights
    assert tuple(listener.records) == report.records


@pytest.mark.parametrize("name", ["blk.0.attn_q.weight", "blk.0.attn_norm.weight", "blk.0.ffn_gate_inp.weight"])
def test_a_nan_leaves_no_file(name: str, tmp_path: Path, folder: Path) -> None:
    tensors = tiny_model()
    tensors[name].flat[5] = np.nan
    source = write_gguf(tmp_path / "source.gguf", tensors)
    with pytest.raises(NonFiniteWeightError, match=name):
        convert(source, folder / "m.gguf", to_nearest())
    assert not list(folder.iterdir())


def test_what_is_refused_before_any_work(source: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        convert(tmp_path / "missing.gguf", folder / "m.gguf", to_nearest())
    with pytest.raises(SourceError, match=f"give its folder, {tmp_path}"):
        (tmp_path / "model.safetensors").touch()
        convert(tmp_path / "model.safetensors", folder / "m.gguf", to_nearest())
    with pytest.raises(TargetError, match=f"{source} would write over {source}, which is read; give another name"):
        convert(source, source, to_nearest())
    with pytest.raises(OptionError, match="nonsense=eoq5 matches no tensor"):
        convert(source, folder / "m.gguf", to_nearest(TypeOptions(tensor_types=("nonsense=eoq5",))))
    assert not list(folder.iterdir())


def test_too_small_a_disk_is_noticed_before_any_work(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = 1000
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": free}))
    with pytest.raises(TargetError, match=r"m\.gguf needs 0\.\d MiB, but"):
        convert(source, folder / "m.gguf", to_nearest())
    assert not list(folder.iterdir())


def test_a_dry_run_plans_what_the_conversion_writes(source: Path, folder: Path) -> None:
    options = to_nearest(TypeOptions("eoq3", output_type="q8_0"))
    proposals = Proposals("file", rules=[Rule("ffn_down", Proposal(parse_type("eoq5"), "so"))])
    planned = dry_run(source, folder / "m.gguf", options, proposals=proposals)
    assert not list(folder.iterdir())
    report = convert(source, folder / "m.gguf", options, proposals=proposals)
    assert [record.plan for record in report.records] == list(planned.plan.tensors)
    types = {record.plan.tensor.name: type_name(record.plan.type) for record in report.records}
    assert types["blk.0.ffn_down.weight"] == "eoq5" and types["blk.0.attn_q.weight"] == "eoq3"
    assert planned.file_bytes == pytest.approx(report.target_bytes, abs=2000)
