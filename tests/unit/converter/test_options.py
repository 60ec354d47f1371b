"""Type names and overrides as users write them."""

from pathlib import Path

import pytest

from converter.errors import OptionError
from converter.options import ConversionOptions, parse_override
from converter.type_choice import ORDINARY_TYPES, parse_type
from eoq_formats.errors import UnknownTypeError


@pytest.mark.parametrize("name", [*ORDINARY_TYPES, "eoq2", "EOQ6", "Eoq5_64", "Q8_0"])
def test_every_offered_type_is_found(name: str) -> None:
    assert parse_type(name).name == name.lower()


@pytest.mark.parametrize("name", ["eoq7", "eoq4_128", "q4_k", "q8_eoq", "", "164"])
def test_unknown_types_are_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownTypeError, match=r"eoq4.*q8_0"):
        parse_type(name)


@pytest.mark.parametrize("name", ["eoq7", "q8_0", "f16"])
def test_the_main_type_is_an_eoq_type(name: str) -> None:
    with pytest.raises(UnknownTypeError, match="eoq4"):
        ConversionOptions(type=name)


def test_the_type_follows_the_last_equals_sign() -> None:
    override = parse_override("(?=blk)=eoq5")
    assert override.matches("blk.0.x") and override.type.name == "eoq5"


@pytest.mark.parametrize("text", ["ffn_down", "=eoq5", "ffn(=eoq5"])
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(OptionError):
        ConversionOptions(tensor_types=(text,))


@pytest.mark.parametrize("options", [{"output_type": "x"}, {"token_embd_type": "x"}, {"tensor_types": ("a=x",)}])
def test_every_option_that_names_a_type_is_checked_at_once(options: dict[str, object]) -> None:
    with pytest.raises(UnknownTypeError):
        ConversionOptions(**options)  # type: ignore[arg-type]


def test_no_threads_is_an_error() -> None:
    with pytest.raises(OptionError, match="threads"):
        ConversionOptions(threads=0)


def test_what_is_recorded_is_what_decides_the_bytes() -> None:
    rtn = ConversionOptions(
        type="EOQ3", output_type="Q8_0", tensor_types=("ffn=EOQ5", "x=f16"), threads=7, rounding="nearest", awq=False
    )
    assert rtn.recorded() == ["type=eoq3", "output-type=q8_0", "tensor-type=ffn=eoq5", "tensor-type=x=f16"]
    assert ConversionOptions(allow_requantize=True, damping=0.1, shrinkage=0.25).recorded() == [
        "type=eoq4",
        "rounding=feedback",
        "awq=on",
        "shrinkage=0.25",
        "damping=0.1",
        "allow-requantize",
    ]
    assert ConversionOptions(rounding="nearest").recorded() == [
        "type=eoq4",
        "rounding=nearest",
        "awq=on",
        "shrinkage=0.5",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounding": "up"}, "no rounding 'up'; choose feedback or nearest"),
        ({"damping": 0}, "damping must be above 0"),
        ({"shrinkage": 1.5}, "shrinkage must be at least 0 and at most 1, not 1.5"),
        ({"shrinkage": -0.1}, "shrinkage must be at least 0"),
        ({"rounding": "nearest", "awq": False, "statistics": Path("s")}, "the statistics s would have no use"),
    ],
)
def test_options_of_calibration_that_mean_nothing(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        ConversionOptions(**options)  # type: ignore[arg-type]
