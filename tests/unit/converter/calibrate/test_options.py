"""Options of a calibration."""

from collections.abc import Callable
from pathlib import Path

import pytest

from converter.errors import OptionError
from converter.options import CalibrationOptions, CalibrationText, split_weight


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CalibrationOptions(sequence_length=4), "at least 8 tokens, not 4"),
        (lambda: CalibrationOptions(tokens=100), "100 calibration tokens are less than one sequence of 512"),
        (lambda: CalibrationOptions(memory_limit=0), "memory limit"),
        (lambda: CalibrationOptions(gpu_layers=-1), "layers on the GPU must not be negative"),
    ],
    ids=["sequence_length", "tokens", "memory_limit", "gpu_layers"],
)
def test_options_that_mean_nothing_are_refused(make: Callable[[], CalibrationOptions], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


def test_texts_with_and_without_weight(tmp_path: Path) -> None:
    assert split_weight("a/b.txt") == (Path("a/b.txt"), 1)
    assert split_weight("a/b.txt:2.5") == (Path("a/b.txt"), 2.5)
    assert split_weight("C:code.txt") == (Path("C:code.txt"), 1)
    named = tmp_path / "odd:2"
    named.write_text("text")
    assert split_weight(str(named)) == (named, 1)
    for weight in ("0", "-1", "nan", "inf"):
        with pytest.raises(OptionError, match=r"text b\.txt must be above 0, not "):
            CalibrationText(*split_weight(f"b.txt:{weight}"))
