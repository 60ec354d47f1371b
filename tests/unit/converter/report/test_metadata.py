"""What the output's metadata says of the tool."""

import tomllib
from pathlib import Path

from converter.report.metadata import TOOL


def test_the_tool_names_the_version_of_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[4] / "pyproject.toml").read_text())["project"]
    assert f"eoq converter {project['version']}" == TOOL
