"""The head of a GGUF: kept byte for byte, and never trusted."""

import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter
from hypothesis import given, settings
from hypothesis import strategies as st

from gguf_files.errors import SourceError
from gguf_files.header import GgufHeader, MetadataEntry, pack_array, pack_entry, pack_header, parse_header, read_header
from tests.samples.gguf_samples import tiny_model, write_gguf

NUMBERS = {
    GGUFValueType.UINT8: 200,
    GGUFValueType.INT8: -100,
    GGUFValueType.UINT16: 60_000,
    GGUFValueType.INT16: -30_000,
    GGUFValueType.UINT32: 4_000_000_000,
    GGUFValueType.INT32: -2_000_000_000,
    GGUFValueType.FLOAT32: 0.1,
    GGUFValueType.UINT64: 2**63 + 1,
    GGUFValueType.INT64: -(2**62),
    GGUFValueType.FLOAT64: 0.1,
    GGUFValueType.BOOL: True,
}


def every_kind_of_value(writer: GGUFWriter) -> None:
    for kind, number in NUMBERS.items():
        writer.add_key_value(f"number.{kind.name}", number, kind)
        writer.add_key_value(f"array.{kind.name}", [number, number, 0], GGUFValueType.ARRAY, kind)
    writer.add_key_value("text", "Grüße", GGUFValueType.STRING)
    writer.add_key_value("text.empty", "", GGUFValueType.STRING)
    writer.add_key_value("text.not_utf8", b"\xff\xfe", GGUFValueType.STRING)
    writer.add_key_value("array.texts", [b"\xf0\x9f", "b", ""], GGUFValueType.ARRAY, GGUFValueType.STRING)


EMPTY = pack_array("array.empty", GGUFValueType.UINT16, [])
"""What gguf-py's writer does not write."""


def nested_array() -> MetadataEntry:
    inner = struct.pack("<IQhhh", GGUFValueType.INT16, 3, 1, -2, 3)
    key = b"array.nested"
    nested = struct.pack("<Q", len(key)) + key + struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.ARRAY, 2)
    return MetadataEntry("array.nested", nested + inner + inner, None)


@pytest.fixture
def sample(tmp_path: Path) -> bytes:
    return write_gguf(tmp_path / "sample.gguf", tiny_model(), every_kind_of_value).read_bytes()


def test_a_head_is_read_in_steps_and_no_further_than_it_goes(sample: bytes) -> None:
    longer = sample + bytes(1 << 24)
    asked: list[tuple[int, int]] = []

    def read(start: int, size: int) -> bytes:
        asked.append((start, size))
        return longer[start : start + size]

    assert read_header(len(longer), read) == parse_header(sample)
    assert asked == [(0, 1 << 16)]
    many = pack_array("tokenizer.ggml.tokens", GGUFValueType.STRING, ["token"] * 100_000)
    longer = pack_header([many], [], 32) + bytes(1 << 24)
    asked.clear()
    assert read_header(len(longer), read).metadata == (many,)
    ends = [start + size for start, size in asked]
    assert [start for start, _ in asked] == [0, *ends[:-1]] and ends[-1] <= 2 * len(many.raw)


def head_of(data: bytes) -> tuple[GgufHeader, bytes]:
    header = parse_header(data)
    return header, data[: header.data_start]


def test_writing_what_was_read_gives_the_same_bytes(sample: bytes) -> None:
    header, head = head_of(sample)
    assert pack_header(header.metadata, header.tensors, header.alignment) == head


def test_values_and_tensors_are_those_that_gguf_py_reads(sample: bytes, tmp_path: Path) -> None:
    header, _ = head_of(sample)
    reader = gguf.GGUFReader(tmp_path / "sample.gguf")
    for kind in NUMBERS:
        assert header.get(f"number.{kind.name}") == reader.fields[f"number.{kind.name}"].contents()
    assert header.get("text") == "Grüße" and header.get("text.empty") == ""
    assert [(t.name, list(t.shape), t.type, t.nbytes) for t in header.tensors] == [
        (t.name, t.shape.tolist(), t.tensor_type, t.n_bytes) for t in reader.tensors
    ]
    assert [header.data_start + t.offset for t in header.tensors] == [t.data_offset for t in reader.tensors]


def test_empty_arrays_survive(sample: bytes) -> None:
    header, head = head_of(sample)
    metadata = (*header.metadata, EMPTY)
    packed = pack_header(metadata, header.tensors, header.alignment) + sample[len(head) :]
    again, head = head_of(packed)
    assert again.metadata == metadata
    assert pack_header(again.metadata, again.tensors, again.alignment) == head


def test_arrays_of_arrays_are_refused_as_by_llama_cpp() -> None:
    with pytest.raises(SourceError, match="arrays within arrays"):
        parse_header(pack_header([nested_array()], [], 32))


def test_what_we_pack_gguf_py_reads(tmp_path: Path) -> None:
    entries = [
        pack_entry("general.architecture", GGUFValueType.STRING, "llama"),
        pack_entry("n", GGUFValueType.UINT32, 7),
        pack_array("levels", GGUFValueType.INT8, [-127, 0, 127]),
        pack_array("names", GGUFValueType.STRING, ["eoq4", "ä"]),
    ]
    path = tmp_path / "packed.gguf"
    path.write_bytes(pack_header(entries, [], 32) + bytes(32))
    fields = gguf.GGUFReader(path).fields
    assert [fields[e.key].contents() for e in entries] == ["llama", 7, [-127, 0, 127], ["eoq4", "ä"]]
    assert fields["levels"].types == [GGUFValueType.ARRAY, GGUFValueType.INT8]


def test_alignment_is_honoured(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", tiny_model(), lambda w: w.add_custom_alignment(256))
    header, head = head_of(path.read_bytes())
    assert header.alignment == 256 and header.data_start % 256 == 0
    assert pack_header(header.metadata, header.tensors, 256) == head


def test_a_file_cut_anywhere_is_called_truncated(sample: bytes) -> None:
    header, head = head_of(sample)
    for size in [*range(4, len(head), 7), len(head) + 1, len(sample) - 4 * header.alignment]:
        with pytest.raises(SourceError, match="truncated"):
            parse_header(sample[:size])


@pytest.mark.parametrize(
    ("offset", "patch", "message"),
    [
        (0, b"GGML", "begin with the bytes GGUF"),
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack(">I", 3), "big-endian"),
        (8, struct.pack("<Q", 2**60), "truncated|damaged"),
        (16, struct.pack("<Q", 2**60), "truncated|damaged"),
        (24, struct.pack("<Q", 2**63), "truncated"),
    ],
)
def test_damage_to_the_first_fields(sample: bytes, offset: int, patch: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        parse_header(sample[:offset] + patch + sample[offset + len(patch) :])


def one_tensor(kind: int = 0, shape: tuple[int, ...] = (32, 4), offset: int = 0, name: bytes = b"x.weight") -> bytes:
    info = struct.pack("<Q", len(name)) + name + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    head = struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + info + struct.pack("<IQ", kind, offset)
    return head.ljust(-(-len(head) // 32) * 32, b"\0") + bytes(512)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (one_tensor(kind=999), "x.weight has type 999"),
        (one_tensor(kind=int(GGMLQuantizationType.Q8_0), shape=(33, 4)), "whole blocks"),
        (one_tensor(shape=(32, 5)), "truncated: 128 bytes of tensor x.weight"),
        (one_tensor(shape=(2**61,)), "truncated"),
        (one_tensor(shape=(2**62, 2**62)), "more weights than can be counted"),
        (one_tensor(offset=2**63), "begins at byte 9223372036854775808 and not at 0"),
        (one_tensor(offset=8), "begins at byte 8 and not at 0"),
        (one_tensor(shape=()), "0 dimensions"),
        (one_tensor(shape=(1,) * 5), "5 dimensions"),
        (one_tensor(name=b"\xff"), "not UTF-8"),
    ],
)
def test_damaged_tensor_entries(data: bytes, message: str) -> None:
    assert parse_header(one_tensor()).tensors[0].nbytes == 512
    with pytest.raises(SourceError, match=message):
        parse_header(data)


def test_a_name_that_stands_twice_is_damage() -> None:
    entry = pack_entry("k", GGUFValueType.UINT32, 1)
    with pytest.raises(SourceError, match="key k stands in it twice"):
        parse_header(pack_header([entry, entry], [], 32))


def test_an_alignment_that_is_no_power_of_two_is_damage() -> None:
    for value in (0, 48):
        with pytest.raises(SourceError, match="alignment"):
            parse_header(pack_header([pack_entry("general.alignment", GGUFValueType.UINT32, value)], [], 32))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_random_damage_is_an_error_of_ours_or_harmless(data: st.DataObject) -> None:
    good = pack_header([pack_entry("a", GGUFValueType.STRING, "b"), EMPTY], [], 32) + one_tensor()
    damaged = np.frombuffer(good, dtype=np.uint8).copy()
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(4, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(SourceError):
        parse_header(damaged.tobytes())
