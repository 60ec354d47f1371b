"""Readers given damaged files: what comes out is an error of ours, or something that can be worked with."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.attacks.mutations import damaged
from tests.attacks.targets import TARGETS, Target, attack, restore

FUZZ = settings(max_examples=300, derandomize=True, database=None, deadline=None)
EVERY_TARGET = pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS.keys())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place for files, and in `model` a sound Hugging Face model."""
    path = tmp_path_factory.mktemp("fuzz")
    restore(path)
    return path


@pytest.fixture(autouse=True)
def sound_model(folder: Path) -> Iterator[None]:
    yield
    restore(folder)


@EVERY_TARGET
def test_what_is_valid_is_read(target: Target, folder: Path) -> None:
    for data in target.valid:
        assert attack(folder, target, data)


@EVERY_TARGET
@FUZZ
@given(data=st.data())
def test_what_is_damaged_is_refused_or_read(target: Target, folder: Path, data: st.DataObject) -> None:
    attack(folder, target, data.draw(damaged(target.valid)))
