"""`eoq fastewq-dataset`: what EWQ says of models at hand goes into a data set."""

from pathlib import Path

import pytest

from converter.plan.planners.fastewq import read_dataset
from eoq.fastewq_dataset import main
from tests.samples.gguf_samples import tiny_model, write_gguf


def test_models_are_added_to_a_copy_of_the_data_set(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, target = write_gguf(tmp_path / "tiny.gguf", tiny_model()), folder / "blocks.csv"
    assert main([str(target), str(model), "--threads", "1"]) == 0
    assert f"{model}: 1 blocks, 1 of them quantised" in capsys.readouterr().out
    rows = read_dataset(target).rows
    assert rows[:-1] == read_dataset().rows and rows[-1].model_name == "tiny"
    # once more changes nothing
    before = target.read_bytes()
    assert main([str(target), str(model), "--threads", "1"]) == 0
    assert target.read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["blocks.csv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{model}", "--threads", "0"], "the number of threads must be at least 1, not 0"),
        (["{folder}/none.gguf"], "none.gguf does not exist"),
    ],
)
def test_what_is_refused_leaves_nothing(
    words: list[str], message: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_gguf(tmp_path / "tiny.gguf", tiny_model())
    given = [word.format(model=model, folder=folder) for word in words]
    assert main([str(folder / "blocks.csv"), *given]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and message in said and said.count("\n") == 1
    assert not list(folder.iterdir())
