"""`eoq inspect`: sizes, and codes that are counted right."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T

from converter import TypeOptions
from eoq.inspect import main
from eoq_formats import kernels
from eoq_formats.codebooks import codebook
from eoq_formats.packing import pack, unpack
from eoq_formats.trellis import decode
from eoq_formats.types import SCALAR_TYPES, TRELLIS_TYPES, WEIGHT_TYPES, WeightType
from gguf_files.source import open_gguf
from inspection.codes import CodeCounts, count_codes, entropy
from inspection.contents import read_contents
from terminal.progress import Progress
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf
from tests.unit.inspection.finished_files import converted

ROWS, LENGTH = 64, 2048


def random_blocks(t: WeightType) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """uint8 (rows, row bytes) of random codes with scales of 1, every eighth of zero."""
    random = np.random.default_rng(t.id)
    codes = random.integers(0, 2**t.bits, (ROWS, LENGTH // t.width, t.width), dtype=np.uint8)
    scales = np.where(np.arange(codes.shape[1]) % 8 == 0, 0.0, 1.0).astype(np.float16)
    blocks = np.empty((*codes.shape[:2], t.block_bytes), dtype=np.uint8)
    blocks[..., :2] = scales[:, None].view(np.uint8)
    blocks[..., 2:] = pack(codes, t)
    return blocks.reshape(ROWS, -1)


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_counts_are_those_of_the_reference(t: WeightType) -> None:
    blocks = random_blocks(t).reshape(-1, t.block_bytes)
    some = blocks[blocks[:, 1] != 0]
    codes = unpack(some[:, 2:], t)
    levels = decode(codes, t) if t.is_trellis else codebook(t.bits).levels[codes]
    counts = count_codes(blocks.reshape(ROWS, -1), t)
    assert (counts.levels == np.bincount(levels.astype(np.int64).reshape(-1) + 128, minlength=256)).all()
    assert (counts.bytes == np.bincount(some[:, 2:].reshape(-1), minlength=256)).all()
    assert counts.zero_blocks == len(blocks) - len(some) and counts.scales == (1.0, 1.0)
    assert counts.histogram.found.sum() == pytest.approx(1) and counts.histogram.expected.sum() == pytest.approx(1)


def sampling_error(p: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", n: int) -> tuple[float, float]:
    """Bias of the entropy of n samples (Miller 1955), and its standard deviation, in bits."""
    information = -np.log2(p)
    variance = float(np.dot(p, information**2) - np.dot(p, information) ** 2)
    return (len(p) - 1) / (2 * n * math.log(2)), math.sqrt(variance / n)


@pytest.mark.parametrize("t", SCALAR_TYPES, ids=lambda t: t.name)
def test_entropy_of_gaussian_codes(t: WeightType) -> None:
    """Values with the scale that the codebook is for: only the sample is random."""
    book = codebook(t.bits)
    values = np.random.default_rng(1).standard_normal((ROWS, LENGTH)) * book.factor
    codes = book.code_of_doubled[np.clip(np.floor(2 * values), -256, 255).astype(np.int64) + 256]
    counts = count_codes(kernels.pack_rows(book.levels[codes], np.ones((ROWS, LENGTH // t.width), np.float16), t), t)
    n = ROWS * LENGTH
    bias, deviation = sampling_error(counts.histogram.expected, n)
    assert counts.weights == n
    assert counts.entropy == pytest.approx(counts.expected_entropy - bias, abs=5 * deviation)
    # 2 n ln 2 times the divergence is chi-squared with as many degrees as codes but one
    degrees = 2**t.bits - 1
    assert 2 * n * math.log(2) * counts.divergence < degrees + 6 * math.sqrt(2 * degrees)
    assert counts.deviation == pytest.approx(counts.expected_deviation, abs=5 / math.sqrt(2 * n))


@pytest.mark.parametrize("t", TRELLIS_TYPES, ids=lambda t: t.name)
def test_entropy_of_a_trellis(t: WeightType) -> None:
    """Random codes cannot be compressed, and codes of Gaussian weights hardly."""
    counts = count_codes(random_blocks(t), t)
    bias, _ = sampling_error(np.full(256, 1 / 256), int(counts.bytes.sum()))
    # bias is half of chi-squared's mean, 255 degrees, in bits: six of its standard deviations above
    assert 8 - bias * (1 + 6 * math.sqrt(2 / 255)) < 8 / t.bits * counts.entropy < 8
    rounded = count_codes(kernels.quantize(random_weights(3, 8, LENGTH, dtype=np.float32), t).data, t)
    assert 0.98 * t.bits < rounded.entropy < t.bits == rounded.expected_entropy
    assert rounded.deviation == pytest.approx(rounded.expected_deviation, abs=0.01)


def test_entropy() -> None:
    assert entropy(np.array([1, 0, 1, 2])) == 1.5 and entropy(np.zeros(4)) == 0 and entropy(np.array([0, 7])) == 0


def test_counts_add_up() -> None:
    (t, *_) = SCALAR_TYPES
    blocks = random_blocks(t)
    parts = count_codes(blocks[:10], t) + count_codes(blocks[10:], t)
    whole = count_codes(blocks, t)
    assert (parts.levels == whole.levels).all() and (parts.bytes == whole.bytes).all()
    assert (parts.zero_blocks, parts.scales) == (whole.zero_blocks, whole.scales)
    empty = count_codes(np.zeros((2, t.row_bytes(LENGTH)), dtype=np.uint8), t)
    assert isinstance(empty, CodeCounts) and empty.weights == 0 and empty.entropy == 0 == empty.deviation


def test_a_file_of_many_types(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    types = TypeOptions("eoq3", output_type="eoq5t", tensor_types=("ffn_down=q8_0", "token_embd=f16"))
    path, _ = converted(folder, types)
    assert main([str(path), "--threads", "1", "--json", str(folder / "i.json"), "--plot", str(folder / "i.png")]) == 0
    lines = capsys.readouterr().out.splitlines()
    (q,) = [line for line in lines if line.startswith("| blk.0.attn_q.weight ")]
    assert [cell.strip() for cell in q.split("|")][2:6] == ["[128, 128]", "eoq3", "3.125", "6,400"]
    assert (folder / "i.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((folder / "i.json").read_text())
    assert [t["name"] for t in content["tensors"]] == list(tiny_model())
    assert list(content["types"]) == ["f16", "eoq5t_128", "f32", "eoq3", "q8_0"]
    eoq3 = content["types"]["eoq3"]
    assert eoq3["bytes"] == sum(t["bytes"] for t in content["tensors"] if t["type"] == "eoq3")
    assert len(eoq3["histogram"]["values"]) == 8 and sum(eoq3["histogram"]["found"]) == pytest.approx(1)
    assert "entropy" not in content["types"]["q8_0"]


def test_some_tensors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    assert main([str(path), "--tensor", "attn_[qk]"]) == 0
    said = capsys.readouterr().out
    assert "blk.0.attn_q.weight" in said and "ffn_down" not in said and "| all  |       1 |" in said


def test_files_without_eoq_types(folder: Path) -> None:
    weights = random_weights(1, 4, 256)
    path = write_gguf(folder / "m.gguf", {"a.weight": as_type(weights, T.Q4_0), "blk.1.b.weight": weights})
    contents = read_contents(open_gguf(path), 1, Progress())
    assert contents.codes_by_type() == {}
    (total,) = [line for line in "\n".join(contents.lines()).splitlines() if line.startswith("| all ")]
    assert [cell.strip() for cell in total.split("|")[2:6]] == ["2", "2,048", "2,624", "10.250"]
    assert main([str(path), "--plot", str(folder / "i.png")]) == 0


@pytest.mark.parametrize(
    "words", [["no such.gguf"], ["{m}", "--tensor", "("], ["{m}", "--tensor", "nonsense"], ["{m}", "--plot", "{m}"]]
)
def test_what_cannot_be_done_is_one_line(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = converted(folder)
    assert main([word.replace("{m}", str(path)) for word in words]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
