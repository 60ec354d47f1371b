"""JSON and TOML, right ones; tests/attacks has the others."""

from pathlib import Path

import pytest

from gguf_files.errors import SourceError
from input_files.ordinary import read_ordinary, read_text
from input_files.structured import MOST_LEVELS, parse_json, read_json, read_toml


def test_content_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ä": [1, 2.5, null, true, "\\ud83d\\ude00"]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", SourceError) == {"ä": [1, 2.5, None, True, "\U0001f600"]}
    (tmp_path / "a.toml").write_text('[t]\n"blk.0" = "raw"\r\n', newline="")
    assert read_toml(tmp_path / "a.toml", SourceError) == {"t": {"blk.0": "raw"}}


@pytest.mark.parametrize(("levels", "fits"), [(MOST_LEVELS - 1, True), (MOST_LEVELS, False)])
def test_the_depth_that_is_read(levels: int, fits: bool) -> None:
    text = "[" * levels + "1" + "]" * levels
    if fits:
        parse_json(text, SourceError, "the text")
        return
    with pytest.raises(SourceError, match="the text nests lists and tables more than"):
        parse_json(text, SourceError, "the text")


def test_errors_name_what_the_file_is_for(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"^the plan .*a\.json cannot be read: No such file"):
        read_json(tmp_path / "a.json", SourceError, "the plan")
    (tmp_path / "a.json").write_text("{]")
    with pytest.raises(SourceError, match=r"^the plan .*a\.json is not JSON: .*; mend it"):
        read_json(tmp_path / "a.json", SourceError, "the plan")


def test_files_up_to_a_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_ordinary(tmp_path / "a", SourceError, most=5) == b"12345"
    with pytest.raises(SourceError, match="has 5 bytes, and no more than 4"):
        read_text(tmp_path / "a", SourceError, most=4)
