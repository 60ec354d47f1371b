"""Options of a calibration."""

from collections.abc import Callable

import pytest

from converter.errors import OptionError
from converter.options import CalibrationOptions


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
