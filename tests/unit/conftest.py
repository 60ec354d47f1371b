from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for outputs, to see what is left in it."""
    path = tmp_path / "out"
    path.mkdir()
    return path
