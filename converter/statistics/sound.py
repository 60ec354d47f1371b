"""What statistics can be at all: numbers of tokens, and mean squares of inputs that some model may have."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import StatisticsError

LARGEST_MEAN_SQUARE = 1e30
"""Far above what flows through any model, and so far below the end of float32 that sums over a row stay within it."""
MOST_EXPERTS = 1024
"""llama.cpp's LLAMA_MAX_EXPERTS."""
MOST_TOKENS = 2**53
"""Up to it float64 has every whole number."""


def check_means(path: Path, name: str, counts: NDArray[np.floating], diagonal: NDArray[np.floating]) -> None:
    """Raise StatisticsError unless there are counts (experts,) and mean squares (experts, n) of an input.

    `name` is of the tensor or the input, for the message.
    """
    if diagonal.ndim != 2 or 0 in diagonal.shape or counts.shape != diagonal.shape[:1]:
        raise _unsound(path, name, f"are {counts.size} counts and {diagonal.size} mean squares")
    if counts.size > MOST_EXPERTS:
        raise _unsound(path, name, f"are for {counts.size} experts, and llama.cpp runs up to {MOST_EXPERTS}")
    if not ((counts >= 0) & (counts <= MOST_TOKENS)).all():  # false for NaN too
        raise _unsound(path, name, "have counts of tokens that are no positive numbers")
    _check_squares(path, name, diagonal)


def check_moments(path: Path, name: str, moments: NDArray[np.float32]) -> None:
    """Raise StatisticsError unless moments (n, n) are finite, with a diagonal of mean squares."""
    if not np.isfinite(moments).all():
        raise _unsound(path, name, "have a NaN or an infinity")
    _check_squares(path, name, moments.diagonal())


def _check_squares(path: Path, name: str, squares: NDArray[np.floating]) -> None:
    if not (squares >= 0).all():
        raise _unsound(path, name, "have mean squares that are no positive numbers")
    if not (squares <= LARGEST_MEAN_SQUARE).all():
        raise _unsound(path, name, f"have mean squares above {LARGEST_MEAN_SQUARE:g}")


def _unsound(path: Path, name: str, what: str) -> StatisticsError:
    return StatisticsError(f"{path} is damaged: its statistics of {name} {what}; calibrate again")
