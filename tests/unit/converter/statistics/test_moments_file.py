"""Statistics files of our own: what goes in comes out, and what is damaged is refused."""

from pathlib import Path

import gguf
import numpy as np
import pytest

from converter.errors import StatisticsError
from converter.statistics import open_statistics
from converter.statistics.moments_file import InputLayout, StatisticsHead, StatisticsWriter
from converter.statistics.triangle import pack
from tests.samples.moments_samples import DOWN, EXPERTS, K, Q, inputs, mean_of_products, model, write_statistics


def test_what_goes_in_comes_out(folder: Path) -> None:
    s = write_statistics(folder / "s.stats", model(folder), seed=5)
    assert s.tensor_names == (Q, K, DOWN) and Q in s and "output.weight" not in s
    assert s.tokens == 50 and s.description == "text 5" and s.notes == ("a note",)
    assert s.input_key(Q) == s.input_key(K) != s.input_key(DOWN)
    assert s.row_length(K) == 64 and s.row_length(DOWN) == 32
    x = inputs(5, 50, 64)
    true = x.T @ x / 50
    assert (s.moments(K) == s.moments(Q)).all()
    assert np.array_equal(s.moments(Q), np.triu(true) + np.triu(true, 1).T)
    assert np.allclose(s.diagonal(Q), [np.mean(x * x, axis=0)], rtol=1e-6)
    assert s.diagonal(Q).dtype == np.float64 and s.counts(Q).tolist() == [50]


def test_experts_have_statistics_each(folder: Path) -> None:
    s = write_statistics(folder / "s.stats", model(folder), seed=5)
    assert s.counts(DOWN).tolist() == [40, 7, 0]
    assert s.diagonal(DOWN).shape == (EXPERTS, 32)
    x = inputs(6, 7, 32)
    assert np.allclose(s.moments(DOWN, 1), x.T @ x / 7, rtol=1e-6, atol=1e-6)
    assert not s.moments(DOWN, 2).any() and not s.diagonal(DOWN)[2].any()
    with pytest.raises(IndexError):
        s.moments(DOWN, 3)


def test_experts_that_saw_too_little_are_known(folder: Path) -> None:
    s = write_statistics(folder / "s.stats", model(folder), seed=5, counts=(4, 3, 0))
    assert s.least_tokens(Q) == 32 and s.experts_short_of_tokens(Q) == []
    # what flows into ffn_down is known to the expert alone
    assert s.least_tokens(DOWN) == 1 and s.experts_short_of_tokens(DOWN) == [2]
    note, warning = s.warnings()
    assert note == "a note"
    assert warning.startswith(f"1 of 3 experts of {DOWN} saw fewer than 1 tokens of calibration, and are")


def test_moments_that_experts_share_are_stored_once(folder: Path) -> None:
    layout = InputLayout("blk.0.ffn_gate_exps", 32, 4, True, ("blk.0.ffn_gate_exps.weight",))
    x = inputs(1, 20, 32)
    with StatisticsWriter(folder / "s.stats", StatisticsHead("f", 20, "", (), (layout,))) as writer:
        moments = mean_of_products(x)
        writer.write(pack(moments), np.diag(moments)[None], np.array([20]))
        writer.commit()
    s = open_statistics(folder / "s.stats")
    name = layout.tensors[0]
    assert s.counts(name).tolist() == [20] * 4 and s.diagonal(name).shape == (4, 32)
    first, last = s.moments(name, 0), s.moments(name, 3)
    assert first is not None and last is not None and (first == last).all()


def test_gguf_py_can_read_it(folder: Path) -> None:
    write_statistics(folder / "s.stats", model(folder), seed=5)
    reader = gguf.GGUFReader(folder / "s.stats")
    assert reader.fields["general.type"].contents() == "eoq-statistics"
    assert [t.name for t in reader.tensors][:3] == [
        "blk.0.attn_q.moments",
        "blk.0.attn_q.diagonal",
        "blk.0.attn_q.counts",
    ]


def test_nothing_is_left_of_a_file_that_was_not_finished(folder: Path) -> None:
    head = StatisticsHead("f", 20, "", (), (InputLayout("a", 4, 1, False, ("a.weight",)),))
    with pytest.raises(KeyboardInterrupt), StatisticsWriter(folder / "s.stats", head):
        raise KeyboardInterrupt
    assert not list(folder.iterdir())


def test_missing_and_foreign_files_are_explained(folder: Path) -> None:
    with pytest.raises(StatisticsError, match=r"s\.stats cannot be read: No such file"):
        open_statistics(folder / "s.stats")
    (folder / "old.dat").write_bytes(b"\x05\0\0\0legacy")
    with pytest.raises(
        StatisticsError, match=r"llama-imatrix -m MODEL\.gguf --in-file \S+ --output-format gguf -o NEW\.gguf$"
    ):
        open_statistics(folder / "old.dat")
    with pytest.raises(StatisticsError, match="holds no statistics"):
        open_statistics(model(folder).paths[0])


def test_a_truncated_file_is_refused(folder: Path) -> None:
    path = write_statistics(folder / "s.stats", model(folder), seed=5).path
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(StatisticsError, match="truncated"):
        open_statistics(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [(b'"row_length": 64', b'"row_length": 63', "is damaged"), (b'[{"key"', b'[{"kez"', "head cannot be read")],
)
def test_a_damaged_head_is_refused(old: bytes, new: bytes, message: str, folder: Path) -> None:
    path = write_statistics(folder / "s.stats", model(folder), seed=5).path
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))
    with pytest.raises(StatisticsError, match=message):
        open_statistics(path)


@pytest.mark.parametrize("version", [1, 9])
def test_another_version_is_refused_with_what_makes_a_new_file(version: int, folder: Path) -> None:
    path = write_statistics(folder / "s.stats", model(folder), seed=5).path
    data = bytearray(path.read_bytes())
    key = b"eoq.statistics.version"
    data[data.index(key) + len(key) + 4] = version
    path.write_bytes(data)
    with pytest.raises(
        StatisticsError, match=rf"of version {version}, .*; make a new one with eoq stats collect MODEL"
    ):
        open_statistics(path)
