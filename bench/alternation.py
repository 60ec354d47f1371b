"""The order of runs: alternating, so that a machine that drifts is as kind to the last as to the first."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def alternating(items: Sequence[T], rounds: int) -> Iterator[tuple[int, T]]:
    """Number of the round, from 1, and item: A B C, C B A, A B C, …"""
    for number in range(1, rounds + 1):
        for item in items if number % 2 else reversed(items):
            yield number, item
