"""Sizes as people write them."""

import pytest

from converter.errors import OptionError
from converter.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GiB", 8 << 30),
        ("700MB", 700_000_000),
        ("1.5G", 1_500_000_000),
        ("12", 12),
        ("3 kib", 3072),
        ("2TB", 2 * 10**12),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_an_option_wants_a_unit() -> None:
    assert parse_size("8G", "--split-max-size") == 8 * 10**9
    with pytest.raises(OptionError, match=r"^--split-max-size: '8' is no size"):
        parse_size("8", "--split-max-size")


@pytest.mark.parametrize("text", ["", "many", "-3GB", "3iB", "3XB", "GiB", "0", "0.2", "9999999999G", "9" * 400])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(OptionError, match="is no size"):
        parse_size(text)
