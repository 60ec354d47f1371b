"""`eoq verify`: what a sound file says, and what is found in damaged ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from numpy.typing import NDArray

from converter import TypeOptions
from eoq.verify import main
from gguf_files.header import MetadataEntry, pack_array, pack_entry, parse_header
from tests.samples.check_program import LOADS, check_program
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf
from tests.unit.inspection.finished_files import change_metadata, converted, damage, faults_of, split, verified

EVERY_KIND = TypeOptions("eoq3", output_type="eoq5t", tensor_types=("ffn_down=q8_0", "token_embd=f16", "exps=eoq4_64"))
Q = "blk.0.attn_q.weight"


@pytest.mark.parametrize("types", [TypeOptions(), EVERY_KIND])
def test_a_sound_file(types: TypeOptions, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, source = converted(folder, types)
    programs = ["--llama-bin", str(check_program(folder, LOADS))]
    assert main([str(path), *programs]) == 0
    said = capsys.readouterr()
    assert said.err == "" and said.out.count("\n") == 1
    by_llama_cpp = "llama.cpp reads every block, and loads the model"
    assert said.out.startswith(f"{path} is sound: 7 tensors (")
    assert said.out.endswith(f"), their checksums right; {by_llama_cpp}\n")
    more = ["--against", str(source), "--threads", "1", "--json", str(folder / "v.json")]
    assert main([str(path), *programs, *more]) == 0
    assert capsys.readouterr().out.endswith(f"; 7 of them within their error of source.gguf; {by_llama_cpp}\n")
    content = json.loads((folder / "v.json").read_text())
    assert content["llama_cpp"] == by_llama_cpp
    assert content["sound"] and content["faults"] == [] and len(content["against"]["tensors"]) == 7
    assert all(t["error"] <= t["bound"] for t in content["against"]["tensors"])


def test_what_llama_cpp_refuses_is_not_sound(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    programs = check_program(folder, f"error: {path}: tensor {Q}: something", status=1)
    assert main([str(path), "--llama-bin", str(programs), "--json", str(folder / "v.json")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.endswith(f": llama.cpp refuses {path}: tensor {Q}: something\n")
    content = json.loads((folder / "v.json").read_text())
    assert not content["sound"] and content["llama_cpp"] is None


def test_a_note_says_that_llama_cpp_was_not_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    assert main([str(path), "--llama-bin", str(folder)]) == 0
    note, sound = capsys.readouterr().out.splitlines()
    assert note.startswith(f"note: llama.cpp has not read it: {folder} has no program llama-check-gguf; build it, or ")
    assert sound.endswith("their checksums right")


def test_a_flipped_bit_names_its_tensor(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)

    def flip(data: NDArray[np.uint8]) -> None:
        data[777] ^= 0x10

    damage(path, Q, flip)
    assert main([str(path), "--json", str(folder / "v.json")]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert said.err.startswith(f"error: {path} is not sound; convert it again or fetch another copy: tensor {Q}: its ")
    (fault,) = json.loads((folder / "v.json").read_text())["faults"]
    assert fault["tensor"] == Q and "CRC-32" in fault["fault"]


def test_several_faults_are_listed_before_the_error(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    for name in (Q, "output.weight"):
        damage(path, name, lambda data: data.__setitem__(5, data[5] ^ 1))
    assert main([str(path)]) == 1
    said = capsys.readouterr()
    assert [line.split(": its")[0] for line in said.out.splitlines()] == [
        "fault: tensor output.weight",
        f"fault: tensor {Q}",
    ]
    assert said.err.endswith("2 faults, listed above\n") and said.err.count("\n") == 1


@pytest.mark.parametrize(
    ("scale", "codes", "text"),
    [
        (b"\x00\x7e", b"", "block 2 of row 1 has a scale that is infinite or NaN"),
        (b"\x00\x7c", b"", "block 2 of row 1 has a scale that is infinite or NaN"),
        (b"\x00\xfc", b"", "block 2 of row 1 has a scale that is infinite or NaN"),
        (b"\x00\xbc", b"", "block 2 of row 1 has a negative scale"),
        (b"\x00\x80", b"\0" * 48, "block 2 of row 1 has a negative scale"),
        (b"\x00\x00", b"\0\0\1", "block 2 of row 1 has codes under a scale of zero"),
        (b"\x00\x00", b"\0" * 48, None),
    ],
)
def test_blocks_that_the_format_forbids(scale: bytes, codes: bytes, text: str | None, folder: Path) -> None:
    path = write_gguf(folder / "m.gguf", {"a.weight": as_type(random_weights(1, 3, 384), T["EOQ3"])})
    assert faults_of(path) == []
    start = 5 * 50

    def change(data: NDArray[np.uint8]) -> None:
        content = scale + codes
        data[start : start + len(content)] = np.frombuffer(content, dtype=np.uint8)

    damage(path, "a.weight", change)
    assert faults_of(path) == ([] if text is None else [f"tensor a.weight: {text}"])


def test_many_bad_blocks_are_one_fault(folder: Path) -> None:
    path = write_gguf(folder / "m.gguf", {"a.weight": as_type(random_weights(1, 3, 384), T["EOQ3"])})

    def change(data: NDArray[np.uint8]) -> None:
        data.reshape(9, 50)[4:, 1] = 0x7D

    damage(path, "a.weight", change)
    text = "block 1 of row 1 has a scale that is infinite or NaN (so 5 in all)"
    assert faults_of(path) == [f"tensor a.weight: {text}"]


@pytest.mark.parametrize("kind", [T.F32, T.F16, T.BF16, T.Q8_0])
def test_numbers_of_other_types_are_finite(kind: T, folder: Path) -> None:
    path = write_gguf(folder / "m.gguf", {"a.weight": as_type(random_weights(1, 4, 64), kind)})
    assert faults_of(path) == []
    damage(path, "a.weight", lambda data: data.reshape(4, -1)[2].fill(0xFF))
    assert faults_of(path) == ["tensor a.weight: row 2 has a NaN or an infinity"]


def entry(key: str, value: str | int) -> MetadataEntry:
    return pack_entry(key, V.STRING if isinstance(value, str) else V.UINT32, value)


LEVELS = [-80, -24, 24, 81]


@pytest.mark.parametrize(
    ("key", "changed", "fault"),
    [
        ("eoq.format_version", None, "the key eoq.format_version is missing"),
        ("eoq.format_version", entry("eoq.format_version", 2), "eoq.format_version is 2, and this program knows 1"),
        ("eoq.types", pack_array("eoq.types", V.STRING, ["eoq4"]), "eoq.types is not the types of the tensors"),
        ("eoq.codebook.4", None, "the key eoq.codebook.4 is missing"),
        (
            "eoq.codebook.2",
            pack_array("eoq.codebook.2", V.INT8, LEVELS),
            "the key eoq.codebook.2 is for a type that no tensor has",
        ),
        (
            "eoq.codebook.4",
            pack_array("eoq.codebook.4", V.INT8, LEVELS),
            "eoq.codebook.4 is not the levels that files are read with",
        ),
        ("eoq.method", entry("eoq.method", "magic"), "eoq.method is 'magic', which is none of rtn, error-feedback, "),
        ("eoq.method", entry("eoq.method", 1), "eoq.method is not a text"),
        ("eoq.options", entry("eoq.options", "type=eoq4"), "eoq.options is not a list of texts"),
        ("eoq.calibration", entry("eoq.calibration", "a text"), "eoq.calibration names statistics, but eoq.method is "),
        ("general.file_type", entry("general.file_type", 1), "general.file_type is 1, which is the number of no EOQ "),
        ("general.quantization_version", None, "general.quantization_version is None, not 2"),
        ("eoq.checksums", entry("eoq.checksums", 1), "eoq.checksums is not an array of uint32"),
        (
            "eoq.checksums",
            pack_array("eoq.checksums", V.UINT32, [1, 2]),
            "eoq.checksums has 2 checksums for 7 tensors",
        ),
        ("eoq.new", entry("eoq.new", "what readers do not know they ignore"), None),
    ],
)
def test_metadata_that_does_not_fit(key: str, changed: MetadataEntry | None, fault: str | None, folder: Path) -> None:
    path, _ = converted(folder)
    change_metadata(path, {key: changed})
    found = faults_of(path)
    assert len(found) == (fault is not None) and all(text.startswith(str(fault)) for text in found), found


@pytest.mark.parametrize(("kind", "number"), [("Q8_0", 7), ("EOQ3", 163)])
def test_a_file_that_was_quantised_once_more_is_told_from_a_damaged_one(
    kind: str, number: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As llama-quantize --allow-requantize leaves it."""
    path, _ = converted(folder)
    header = parse_header(path.read_bytes())
    kept = {e.key: e for e in header.metadata if e.key != "general.architecture"}
    tensors = tiny_model()
    again = {name: as_type(t, T[kind]) if t.ndim > 1 and "inp" not in name else t for name, t in tensors.items()}
    write_gguf(path, again)
    change_metadata(path, {**kept, "general.file_type": entry("general.file_type", number)})
    assert main([str(path), "--json", str(folder / "v.json")]) == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "fault:" not in said.out
    assert "a conversion gave its tensors the types eoq4, eoq6, and another program, such as llama-quantize" in said.err
    assert len(json.loads((folder / "v.json").read_text())["faults"]) == 1


def test_a_file_without_checksums(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    change_metadata(path, {"eoq.checksums": None})
    assert main([str(path), "--llama-bin", str(check_program(folder, LOADS))]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("note: no checksums, as in files of older versions") and ", no checksums; " in said[-1]


def test_a_file_of_another_program(folder: Path) -> None:
    """EOQ tensors without a word about them, and a model that has none."""
    path = write_gguf(folder / "m.gguf", {"a.weight": as_type(random_weights(1, 3, 384), T["EOQ3T_128"])})
    found = verified(path)
    assert found.faults == () and found.notes[-1] == "no metadata of EOQ's, as in files of llama-quantize"
    found = verified(write_gguf(folder / "f16.gguf", tiny_model()))
    assert found.faults == () and found.notes[-1] == "no tensor has an EOQ type"


def test_splits_are_read_as_one(folder: Path) -> None:
    """Laid out as llama-gguf-split does it: all metadata, and so all checksums, in the first."""
    path, _ = converted(folder)
    paths = split(path)
    assert verified(paths[0]).has_checksums and faults_of(paths[0]) == []
    damage(paths[1], "blk.0.ffn_up_exps.weight", lambda data: data.__setitem__(9, data[9] ^ 1))
    (fault,) = verified(paths[0]).faults
    assert fault.tensor == "blk.0.ffn_up_exps.weight"


@pytest.mark.parametrize("words", [["no such.gguf"], ["{m}", "--against", "{m}x"], ["{m}", "--json", "{m}"]])
def test_what_cannot_be_done_is_one_line(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    before = path.read_bytes()
    assert main([word.replace("{m}", str(path)) for word in words]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    assert path.read_bytes() == before


def test_a_truncated_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    path.write_bytes(path.read_bytes()[:-40])
    assert main([str(path)]) == 1
    assert "it is truncated: " in capsys.readouterr().err
