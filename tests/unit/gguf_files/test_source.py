"""Opening models: whole, in splits, and what is no model."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from gguf_files.errors import SourceError
from gguf_files.source import open_gguf
from tests.samples.gguf_samples import tiny_model, write_gguf


def write_splits(folder: Path, count: int = 3) -> list[Path]:
    """The tiny model, two or three tensors a file, as llama-gguf-split lays it out."""
    writer = GGUFWriter(folder / "m.gguf", "llama", split_max_tensors=-(-len(tiny_model()) // count))
    writer.add_uint32("llama.block_count", 1)
    for name, data in tiny_model().items():
        writer.add_tensor(name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob("m-*.gguf"))


def test_rows_are_the_bytes_of_the_file(tmp_path: Path) -> None:
    tensors = tiny_model()
    source = open_gguf(write_gguf(tmp_path / "m.gguf", tensors))
    assert [t.name for t in source.tensors] == list(tensors) and source.architecture == "llama"
    for t in source.tensors:
        rows = tensors[t.name].reshape(-1, t.row_length)
        assert t.rows == len(rows)
        got = source.rows(t, 1, t.rows).view(rows.dtype)
        assert (got == rows[1:]).all()
        assert (source.rows(t, 0, t.rows).view(rows.dtype) == rows).all()


def test_splits_are_one_model(tmp_path: Path) -> None:
    paths = write_splits(tmp_path)
    assert len(paths) == 3
    source = open_gguf(paths[0])
    assert source.paths == tuple(paths)
    assert {t.name: source.rows(t, 0, t.rows).tobytes() for t in source.tensors} == {
        name: np.asarray(data).tobytes() for name, data in tiny_model().items()
    }


def test_a_later_split_is_answered_with_the_first(tmp_path: Path) -> None:
    paths = write_splits(tmp_path)
    with pytest.raises(SourceError, match=f"not the first .*{paths[0].name}"):
        open_gguf(paths[1])


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    paths = write_splits(tmp_path)
    paths[2].unlink()
    with pytest.raises(SourceError, match=paths[2].name):
        open_gguf(paths[0])


def test_splits_that_lost_their_names(tmp_path: Path) -> None:
    path = write_splits(tmp_path)[0].rename(tmp_path / "other.gguf")
    with pytest.raises(SourceError, match="llama-gguf-split --merge"):
        open_gguf(path)


def test_a_split_of_another_model(tmp_path: Path) -> None:
    paths = write_splits(tmp_path)
    write_gguf(paths[1], tiny_model())
    with pytest.raises(SourceError, match="is not split 2 of 3"):
        open_gguf(paths[0])


def test_a_file_that_does_not_hold_a_model(tmp_path: Path) -> None:
    empty = tmp_path / "empty.gguf"
    empty.touch()
    with pytest.raises(SourceError, match="it is empty"):
        open_gguf(empty)
    with pytest.raises(SourceError, match="no tensors"):
        open_gguf(write_gguf(tmp_path / "vocabulary.gguf", {}))
    with pytest.raises(SourceError, match="no architecture"):
        open_gguf(write_gguf(tmp_path / "nameless.gguf", tiny_model(), architecture=""))
    with pytest.raises(SourceError, match=r"missing\.gguf cannot be read: No such file"):
        open_gguf(tmp_path / "missing.gguf")
