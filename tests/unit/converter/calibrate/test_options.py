"""Options of a calibration."""

import pytest

from converter.errors import OptionError
from converter.options import CalibrationOptions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sequence_length": 4}, "at least 8 tokens, not 4"),
        ({"tokens": 100}, "100 calibration tokens are less than one sequence of 512"),
        ({"dtype": "float16"}, "'float16'; choose float32 or bfloat16"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"memory_limit": 0}, "memory limit"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        CalibrationOptions(**options)
