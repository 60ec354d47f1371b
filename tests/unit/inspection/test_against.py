"""Files held against their sources: errors within what types promise, scales that are found again, and what is not."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as T
from gguf import GGUFWriter
from numpy.typing import NDArray

from converter import TypeOptions
from converter.scaling import Fold, Folded, fold_groups
from eoq.verify import main
from eoq_formats import kernels
from eoq_formats.trellis import code_of
from eoq_formats.types import WEIGHT_TYPES, WeightType
from gguf_files.source import Source, open_gguf
from gguf_files.weights import RowWorkers, SourceWeights
from inspection.promised_error import NEAREST_MARGIN, promised_error
from inspection.verify import Verification
from tests.samples.gguf_samples import as_type, random_weights, tiny_model, write_gguf
from tests.unit.inspection.finished_files import converted, damage, verified

WIDTH, HIDDEN, HEADS, KV_HEADS = 128, 384, 4, 2
NORM = "blk.0.attn_norm.weight"
Q = "blk.0.attn_q.weight"
Arrays = dict[str, NDArray[np.generic]]


def errors(found: Verification) -> dict[str, float]:
    return {c.tensor.name: c.error for c in found.compared.comparisons}


@pytest.mark.parametrize("t", WEIGHT_TYPES, ids=lambda t: t.name)
def test_gaussian_weights_keep_the_promise_with_room_to_spare(t: WeightType) -> None:
    """Of 3 dB they take at most half of one, in narrow blocks of trellis types."""
    weights = np.random.default_rng(1).standard_normal((32, 2048), dtype=np.float32)
    rounded = kernels.quantize(weights, t)
    promised = promised_error(T[t.name], feedback=False, mean_square=1.0)
    assert promised is not None and rounded.error.sum() / rounded.signal.sum() < promised / NEAREST_MARGIN * 1.12


@pytest.mark.parametrize("name", ["eoq2", "eoq2t", "eoq6_64", "eoq5t_64", "q8_0", "q4_0", "tq2_0", "mxfp4", "bf16"])
def test_the_error_is_that_of_rounding(name: str, folder: Path) -> None:
    path, source = converted(folder, TypeOptions(tensor_types=(f"ffn_down={name}",)))
    found = verified(path, source)
    assert found.faults == () and len(found.compared.comparisons) == len(tiny_model())
    stored = open_gguf(path)
    with RowWorkers(1) as workers:
        for t in stored.tensors:
            y = SourceWeights(stored, workers).read(t, 0, t.rows).astype(np.float64)
            x = tiny_model()[t.name].astype(np.float64).reshape(y.shape)
            assert errors(found)[t.name] == pytest.approx(np.square(y - x).sum() / np.square(x).sum())


def test_other_weights_are_out_of_bounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, source = converted(folder)
    tensors = tiny_model()
    tensors[Q] = random_weights(99, *tensors[Q].shape)
    other = write_gguf(folder / "other.gguf", tensors)
    (fault,) = verified(path, other).faults
    assert fault.tensor == Q and fault.text.startswith("its error, ") and fault.text.endswith("the most of eoq4")
    # two independent Gaussians are apart by twice their energy: n (1 ± sqrt(8 / n) at five sigma)
    n = tensors[Q].size
    assert errors(verified(path, other))[Q] == pytest.approx(2, abs=5 * np.sqrt(8 / n) + 0.02)
    assert main([str(path), "--against", str(other)]) == 1
    said = capsys.readouterr()
    assert f"tensor {Q}: its error" in said.err and "| nearest to its bound" in said.out
    assert verified(path, source).faults == ()


def test_copies_are_compared_byte_by_byte(folder: Path) -> None:
    path, source = converted(folder)
    damage(source, NORM, lambda data: data.__setitem__(0, data[0] ^ 1))
    (fault,) = verified(path, source).faults
    assert str(fault) == f"tensor {NORM}: its bytes are not those of the source, though both are f32"


def test_tensors_that_only_one_has(folder: Path) -> None:
    path, _ = converted(folder)
    tensors = tiny_model()
    del tensors["output.weight"]
    tensors["new.weight"] = random_weights(1, 3, 128)
    tensors[Q] = random_weights(1, 64, 128)
    faults = [str(fault) for fault in verified(path, write_gguf(folder / "other.gguf", tensors)).faults]
    assert faults == [
        "tensor output.weight: the source has no such tensor",
        "tensor new.weight: the source has it, the file does not",
        f"tensor {Q}: its shape is [128, 128], that of the source [128, 64]",
    ]


def test_a_nan_is_out_of_bounds(folder: Path) -> None:
    path, source = converted(folder)
    damage(path, Q, lambda data: data.__setitem__(slice(2), (0, 0x7E)))
    texts = [fault.text for fault in verified(path, source).faults]
    assert len(texts) == 3 and texts[2].startswith("its error, nan of the weights' energy, is above")


def scaled_model(bias: bool) -> Arrays:
    """One block of llama's with grouped heads."""
    block = {
        "attn_q.weight": (WIDTH, WIDTH),
        "attn_k.weight": (WIDTH // 2, WIDTH),
        "attn_v.weight": (WIDTH // 2, WIDTH),
        "attn_output.weight": (WIDTH, WIDTH),
        "ffn_gate.weight": (HIDDEN, WIDTH),
        "ffn_up.weight": (HIDDEN, WIDTH),
        "ffn_down.weight": (WIDTH, HIDDEN),
    }
    tensors: Arrays = {f"blk.0.{name}": random_weights(i, *shape) for i, (name, shape) in enumerate(block.items())}
    for i, name in enumerate(("attn_norm", "ffn_norm")):
        tensors[f"blk.0.{name}.weight"] = 1 + random_weights(20 + i, WIDTH, dtype=np.float32)
        tensors[f"blk.0.{name}.weight"][5:10] = 0  # nothing tells the scales of what reads these
    if bias:
        tensors["blk.0.attn_v.bias"] = random_weights(30, WIDTH // 2, dtype=np.float32)
    return tensors


def heads(writer: GGUFWriter) -> None:
    writer.add_uint32("llama.attention.head_count", HEADS)
    writer.add_uint32("llama.attention.head_count_kv", KV_HEADS)


def how_made(writer: GGUFWriter) -> None:
    heads(writer)
    writer.add_string("eoq.method", "awq+rtn")


def write_scaled(
    folder: Path, kinds: Mapping[str, T], bias: bool = False, wrong: str | None = None
) -> tuple[Path, Source]:
    """A model with scales of a factor of two and more folded in, and rounded; one tensor is left without, if any."""
    tensors = scaled_model(bias)
    source = open_gguf(write_gguf(folder / "source.gguf", tensors, heads))
    groups = fold_groups("llama", source.tensors, source.metadata).groups
    assert len(groups) == 4
    random = np.random.default_rng(7)
    folds = [Fold(g, np.exp(0.7 * random.standard_normal((1, g.sources))).astype(np.float32)) for g in groups]
    stored: Arrays = {}
    with RowWorkers(1) as workers:
        plain = SourceWeights(source, workers)
        folded = Folded(plain, folds)
        for t in source.tensors:
            rows = np.array((plain if t.name == wrong else folded).read(t, 0, t.rows))
            kind = kinds.get(t.name.split(".")[2], T["EOQ4"])
            stored[t.name] = rows.reshape(-1) if t.dimensions == 1 else as_type(rows, kind)
    return write_gguf(folder / "m.gguf", stored, how_made), source


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kinds", [{}, {"attn_v": T["EOQ2"], "ffn_up": T["EOQ2"], "ffn_down": T["EOQ6"]}])
def test_scales_are_found_again(kinds: Mapping[str, T], bias: bool, folder: Path) -> None:
    path, source = write_scaled(folder, kinds, bias)
    compared = verified(path, source.paths[0]).compared
    assert compared.faults == () and len(compared.comparisons) == len(source.tensors)
    found = {c.tensor.name: c for c in compared.comparisons}
    # scales of norms are exact, so those errors are of rounding alone
    for name in ("attn_q", "attn_k", "ffn_gate"):
        mse = code_of(next(t for t in WEIGHT_TYPES if t.name == "EOQ4")).mse
        assert found[f"blk.0.{name}.weight"].error < NEAREST_MARGIN * mse
        assert found[f"blk.0.{name}.weight"].bound == pytest.approx(NEAREST_MARGIN * mse)


@pytest.mark.parametrize("wrong", ["attn_q", "attn_output", "ffn_up", "ffn_down"])
def test_a_scale_that_one_side_lacks_is_noticed(wrong: str, folder: Path) -> None:
    path, source = write_scaled(folder, {}, wrong=f"blk.0.{wrong}.weight")
    assert {"ffn_up": "blk.0.ffn_down.weight"}.get(wrong, f"blk.0.{wrong}.weight") in {
        fault.tensor for fault in verified(path, source.paths[0]).compared.faults
    }


def test_without_awq_no_scales_are_looked_for(folder: Path) -> None:
    path, source = write_scaled(folder, {})
    plain = {name: np.asarray(t) for name, t in scaled_model(bias=False).items()}
    assert plain.keys() == {t.name for t in open_gguf(path).tensors}
    data = path.read_bytes().replace(b"awq+rtn", b"rtn-rtn")
    path.write_bytes(data)
    names = {fault.tensor for fault in verified(path, source.paths[0]).compared.faults}
    assert names == plain.keys()
