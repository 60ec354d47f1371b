"""Heads of GGUF files that llama.cpp refuses, or that would take time or memory without end."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from gguf import GGUFValueType

from eoq import plan
from eoq.convert import main
from gguf_files.source import open_gguf
from tests.attacks.tool import assert_refused, assert_refused_within_limits
from tests.samples.gguf_bytes import TEXT, U32, U64, Tensor, array, entry, gguf

ARCHITECTURE = entry("general.architecture", TEXT, "llama")
Q, K = Tensor("blk.0.attn_q.weight", (32, 4)), Tensor("blk.0.attn_k.weight", (32, 4))


def model(*more: bytes | Tensor) -> bytes:
    """A model of two tensors with these entries and tensors as well."""
    entries = [ARCHITECTURE, *(one for one in more if isinstance(one, bytes))]
    return gguf(entries, [Q, K, *(one for one in more if isinstance(one, Tensor))])


def at(offset: int) -> bytes:
    """The second tensor's data begin there."""
    return gguf([ARCHITECTURE], [Q, Tensor(K.name, K.shape, offset=offset)]) + bytes(4096)


def other_order() -> bytes:
    return gguf([ARCHITECTURE], [Tensor(Q.name, Q.shape, offset=512), Tensor(K.name, K.shape, offset=0)])


def array_of_arrays() -> bytes:
    return struct.pack("<Q1sIIQ", 1, b"k", GGUFValueType.ARRAY, GGUFValueType.ARRAY, 2**60)


CASES: dict[str, tuple[bytes, str]] = {
    "overlap": (at(0), "begins at byte 0 and not at 512"),
    "overlap in part": (at(480), "begins at byte 480"),
    "gap": (at(544), "begins at byte 544"),
    "not aligned": (at(516), "begins at byte 516"),
    "far away": (at(2**63), "begins at byte 9223372036854775808"),
    "other order": (other_order(), "begins at byte 512 and not at 0"),
    "name of 64 bytes": (model(Tensor("x" * 64, (32,))), "1 to 63 bytes"),
    "name of 64 bytes in 32 letters": (model(Tensor("ä" * 32, (32,))), "1 to 63 bytes"),
    "name of a megabyte": (model(Tensor("x" * 10**6, (32,))), "1 to 63 bytes"),
    "empty name": (model(Tensor("", (32,))), "1 to 63 bytes"),
    "NUL in a name": (model(Tensor("a\0b", (32,))), r"'a\x00b'"),
    "name twice": (model(Q), "stands in it twice"),
    "escapes in a name": (model(Tensor("\x1b[2J\n\u202eerror: x", (32,), offset=1)), r"\x1b[2J\n\u202eerror: x"),
    "escapes in a key": (model(*[entry("\x1b]0;owned\x07", U32, 1)] * 2), r"\x1b]0;owned\x07"),
    "empty key": (model(entry("", TEXT, "v")), "a metadata key is ''"),
    "NUL in a key": (model(entry("a\0", TEXT, "v")), "a metadata key is"),
    "key twice": (model(ARCHITECTURE), "stands in it twice"),
    "arrays of arrays": (model(array_of_arrays()), "arrays within arrays"),
    "alignment of 64 bits": (model(entry("general.alignment", U64, 32)), "not of type uint32"),
    "alignment is a text": (model(entry("general.alignment", TEXT, "32")), "not of type uint32"),
    "alignment is true": (model(entry("general.alignment", GGUFValueType.BOOL, True)), "not of type uint32"),
    "alignment is an array": (model(array("general.alignment", U32, [32])), "not of type uint32"),
    "alignment 0": (model(entry("general.alignment", U32, 0)), "not a power of two"),
    "alignment 2^31": (model(entry("general.alignment", U32, 2**31)), "not a power of two up to"),
    "length 2^63": (model(Tensor("x", (0, 2**63), b"")), "more weights than can be counted"),
    "2^62 times 2 times 0": (model(Tensor("x", (2**62, 2, 0), b"")), "more weights than can be counted"),
    "2^60 weights": (model(Tensor("x", (2**58, 4), b"")), "truncated"),
    "2^63 tensors": (gguf([ARCHITECTURE], [Q], count=2**63), "can be read"),
    "10^5 tensors": (gguf([ARCHITECTURE], [], count=10**5), "can be read"),
    "60,000 texts of which the last is cut": (model(array("k", TEXT, ["a"] * 60_000))[:500_000], "truncated"),
    "tokens are a number": (model(entry("tokenizer.ggml.tokens", U32, 5)), "not an array of string"),
    "tokens are numbers": (model(array("tokenizer.ggml.tokens", U32, [5])), "not an array of string"),
    "scores are texts": (model(array("tokenizer.ggml.scores", TEXT, ["a"])), "not an array of float32"),
    "merges are numbers": (model(array("tokenizer.ggml.merges", U32, [5])), "not an array of string"),
    "fewer types than tokens": (
        model(
            array("tokenizer.ggml.tokens", TEXT, ["a", "b"]),
            array("tokenizer.ggml.token_type", GGUFValueType.INT32, [1]),
        ),
        "has 1 elements for 2 tokens",
    ),
    "escapes in the architecture": (gguf([entry("general.architecture", TEXT, "\x1b[2J")], []), "holds no tensors"),
    "nothing": (b"", "it is empty"),
    "another format": (b"GGML" + bytes(100), "does not begin with the bytes GGUF"),
}


@pytest.mark.parametrize(("data", "message"), CASES.values(), ids=CASES.keys())
def test_damaged_models(data: bytes, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    assert_refused(main, capsys, message, tmp_path / "m.gguf", tmp_path / "out.gguf", "--rtn")
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


def sparse(data: bytes, size: int) -> Callable[[Path], None]:
    """The bytes, and zeros that take no place on the disk."""

    def write(path: Path) -> None:
        with path.open("wb") as file:
            file.write(data)
            file.truncate(size)

    return write


LONG_TEXT = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIQ", 1, b"k", TEXT, 2**34)
LONG_ARRAY = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", GGUFValueType.ARRAY, U64, 2**31)
MANY_TEXTS = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q1sIIQ", 1, b"k", GGUFValueType.ARRAY, TEXT, 2**31)
WITHIN_LIMITS: dict[str, tuple[Callable[[Path], None], str]] = {
    "alignment 2^35": (sparse(model(entry("general.alignment", U64, 2**35)), 2**35 + 2**12), "not of type uint32"),
    "alignment 2^30": (sparse(model(entry("general.alignment", U32, 2**30)), 2**31), "not a power of two up to"),
    "text of 2^34 bytes": (sparse(LONG_TEXT, 2**35), "goes on past 134,217,728 bytes"),
    "array of 2^31 numbers": (sparse(LONG_ARRAY, 2**35), "goes on past 134,217,728 bytes"),
    "array of 2^31 texts": (sparse(MANY_TEXTS, 2**35), "goes on past 134,217,728 bytes"),
}


@pytest.mark.parametrize(("write", "message"), WITHIN_LIMITS.values(), ids=WITHIN_LIMITS.keys())
def test_files_that_ask_for_much(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path / "m.gguf")
    assert_refused_within_limits(message, "convert_eoq.py", tmp_path / "m.gguf", tmp_path / "out.gguf", "--rtn")


@pytest.mark.parametrize("shape", [(0, 2**40), (0, 2**62), (2**62, 0), (2**31, 2**31, 0)])
def test_a_tensor_without_weights_is_copied_whatever_its_lengths(shape: tuple[int, ...], tmp_path: Path) -> None:
    """llama.cpp takes it."""
    (tmp_path / "m.gguf").write_bytes(model(Tensor("x", shape, b"")))
    assert main([str(tmp_path / "m.gguf"), str(tmp_path / "out.gguf"), "--rtn", "--quiet"]) == 0
    assert open_gguf(tmp_path / "out.gguf").tensors[-1].shape == shape


def test_escapes_in_a_name_reach_the_terminal_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.gguf").write_bytes(model(Tensor("\x1b[2J\nerror: x.weight", (32, 4))))
    assert main([str(tmp_path / "m.gguf"), str(tmp_path / "out.gguf"), "--rtn", "--table"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and all(line.isprintable() for line in said.out.splitlines())
    assert said.out.count(r"\x1b[2J\nerror: x.weight") == 2


SIZES: dict[str, int] = {"block_count": 1, "attention.head_count": 4, "embedding_length": 32, "feed_forward_length": 64}


@pytest.mark.parametrize("key", ["block_count", "embedding_length", "feed_forward_length"])
def test_sizes_in_the_metadata_that_no_cluster_has_room_for(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = SIZES | {key: 2**64 - 1}
    (tmp_path / "m.gguf").write_bytes(model(*(entry(f"llama.{name}", U64, size) for name, size in sizes.items())))
    words = ["--planner", "ewq", "--machine", "localhost=8GiB", "--machine", "192.168.1.20=8GiB"]
    assert_refused(plan.main, capsys, "which llama.cpp does not run", tmp_path / "m.gguf", *words)


def test_a_model_without_a_weight_is_planned(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf([ARCHITECTURE], [Tensor("x.weight", (0, 4), b"")]))
    assert plan.main([str(tmp_path / "m.gguf"), "--target-bpw", "5", "--table"]) in (0, 1)
    assert main([str(tmp_path / "m.gguf"), str(tmp_path / "out.gguf"), "--rtn"]) == 0


def test_a_signalling_nan_is_one_line(tmp_path: Path) -> None:
    """NumPy warns of its conversion."""
    weights = Tensor("blk.0.attn_q.weight", (64, 4), struct.pack("<I", 0x7F800001) + bytes(1020))
    (tmp_path / "m.gguf").write_bytes(gguf([ARCHITECTURE], [weights]))
    assert_refused_within_limits("has no entropy", "plan_eoq.py", tmp_path / "m.gguf", "--planner", "ewq")
