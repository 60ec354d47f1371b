"""Results as JSON."""

import json
from pathlib import Path

from output_files.json_text import lines_of_json, plain

VALUES = {
    "a": 1,
    "numbers": [{"x": float("nan"), "y": (float("inf"), 0.5)}, {"x": 1e300}],
    "none": [],
    "path": Path("a/b"),
    "ä": {"inner": [1, 2]},
}


def test_numbers_that_are_not_finite_become_null_and_paths_text() -> None:
    read = json.loads(lines_of_json(VALUES))
    assert read == plain(VALUES)
    assert read["numbers"] == [{"x": None, "y": [None, 0.5]}, {"x": 1e300}]
    assert read["path"] == "a/b"


def test_a_line_for_each_key_and_each_item() -> None:
    lines = lines_of_json(VALUES).splitlines()
    assert lines[1] == ' "a": 1,' and lines[3] == '  {"x": null, "y": [null, 0.5]},'
    assert json.loads(lines_of_json({})) == {}
