"""The synthetic model has the tensors that were asked for, and its files the types of their names."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType, GGUFReader

from bench.errors import BenchError
from bench.inference import files as inference_files
from bench.inference.files import ModelFiles, bytes_read
from bench.inference.synthetic_model import Shape, is_quantised, tensors, write_imatrix, write_model
from gguf_files.tensors import TensorInfo

DENSE = Shape(hidden=256, feed_forward=512, layers=2, vocabulary=96)
MIXTURE = Shape(hidden=256, feed_forward=256, layers=1, vocabulary=96, experts=4, experts_used=2)


def test_default_shape() -> None:
    shape = Shape()
    assert (shape.heads, shape.kv_heads) == (32, 8)
    sizes = dict(tensors(shape))
    assert sizes["blk.7.ffn_down.weight"] == (2048, 5632)
    assert sizes["blk.0.attn_k.weight"] == (512, 2048)
    assert sizes["output.weight"] == sizes["token_embd.weight"] == (32000, 2048)


@pytest.mark.parametrize(
    "sizes",
    [{"hidden": 200}, {"feed_forward": 0}, {"layers": 0}, {"experts": 4}, {"experts": 2, "experts_used": 3}],
)
def test_sizes_that_make_no_model(sizes: dict[str, int]) -> None:
    with pytest.raises(BenchError, match=r"must be|needs|make no"):
        Shape(**sizes)


@pytest.mark.parametrize("shape", [DENSE, MIXTURE])
def test_file(shape: Shape, tmp_path: Path) -> None:
    write_model(shape, tmp_path / "F16.gguf")
    reader = GGUFReader(tmp_path / "F16.gguf")
    found = {t.name: tuple(reversed([int(size) for size in t.shape])) for t in reader.tensors}
    assert found == dict(tensors(shape))
    for t in reader.tensors:
        keeps_f32 = len(t.shape) == 1 or "ffn_gate_inp" in t.name
        assert t.tensor_type == (GGMLQuantizationType.F32 if keeps_f32 else GGMLQuantizationType.F16), t.name

    def value(key: str) -> object:
        return reader.fields[key].contents()

    assert value("general.architecture") == "llama"
    assert value("tokenizer.ggml.model") == "none" and value("llama.vocab_size") == 96
    assert (value("llama.attention.head_count"), value("llama.attention.head_count_kv")) == (4, 1)
    if shape.experts:
        assert (value("llama.expert_count"), value("llama.expert_used_count")) == (4, 2)
        assert found["blk.0.ffn_up_exps.weight"] == (4, 256, 256)


def test_bytes_read_for_a_token() -> None:
    f16 = GGMLQuantizationType.F16
    assert bytes_read(TensorInfo("token_embd.weight", (256, 96), f16), DENSE) == 512
    assert bytes_read(TensorInfo("output.weight", (256, 96), f16), DENSE) == 512 * 96
    assert bytes_read(TensorInfo("blk.0.ffn_up_exps.weight", (256, 256, 4), f16), MIXTURE) == 2 * 512 * 256


def fake_programs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Programs that write an F16 model whatever they are asked for. Returns the commands."""
    seen: list[list[str]] = []

    def run(command: Sequence[str]) -> str:
        seen.append(list(command))
        target = next(Path(word) for word in command if word.endswith(".part.gguf"))
        write_model(DENSE, target)
        return ""

    monkeypatch.setattr(inference_files, "output_of", run)
    return seen


def test_files_are_made_once_from_one_f16(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = fake_programs(monkeypatch)
    files = ModelFiles(DENSE, tmp_path / "work", tmp_path / "bin", threads=2)
    half = files.make("F16")
    assert half.bytes_per_weight == 2
    norms = 4 * 256 * (2 * DENSE.layers + 1)
    weights = 256 * 96 + DENSE.layers * (2 * 256 * 256 + 2 * 64 * 256 + 3 * 256 * 512)
    assert half.bytes_per_token == norms + 2 * weights + 2 * 256
    assert not commands
    source = str(half.path)
    # what was made is looked at: these programs write F16
    with pytest.raises(BenchError, match="is f16, not EOQ4; delete the file"):
        files.make("EOQ4")
    with pytest.raises(BenchError, match="not Q3_K"):
        files.make("Q3_K")
    with pytest.raises(BenchError, match="not IQ2_XXS"):
        files.make("IQ2_XXS")
    ours, plain, weighted = commands
    for command, name in ((ours, "EOQ4"), (plain, "Q3_K_S"), (weighted, "IQ2_XXS")):
        assert command[0].endswith("llama-quantize") and command[1] == "--pure"
        assert source in command and command[-2:] == [name, "2"]
    imatrix = tmp_path / "work" / "imatrix.gguf"
    assert weighted[2:4] == ["--imatrix", str(imatrix)] and "--imatrix" not in plain
    assert files.make("F16") == half
    made = ["EOQ4.gguf", "F16.gguf", "IQ2_XXS.gguf", "Q3_K.gguf", "imatrix.gguf"]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == made
    assert len(commands) == 3


@pytest.mark.parametrize("shape", [DENSE, MIXTURE])
def test_an_imatrix_is_for_all_matrices(shape: Shape, tmp_path: Path) -> None:
    write_imatrix(shape, tmp_path / "i.gguf")
    found = {t.name: tuple(t.shape) for t in GGUFReader(tmp_path / "i.gguf").tensors}
    expected: dict[str, tuple[int, ...]] = {}
    for name, size in tensors(shape):
        if is_quantised(name, len(size)):
            matrices = shape.experts if len(size) == 3 else 1
            expected |= {f"{name}.in_sum2": (size[-1], matrices), f"{name}.counts": (1, matrices)}
    assert found == expected
