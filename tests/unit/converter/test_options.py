"""Type names and overrides as users write them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from converter.errors import OptionError
from converter.options import (
    ConversionOptions,
    HfOption,
    RoundingOptions,
    SourceAccess,
    TypeOptions,
    check_threads,
    parse_hf_option,
    parse_override,
)
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
        TypeOptions(type=name)


def test_the_type_follows_the_last_equals_sign() -> None:
    override = parse_override("(?=blk)=eoq5")
    assert override.matches("blk.0.x") and override.type.name == "eoq5"


@pytest.mark.parametrize("text", ["ffn_down", "=eoq5", "ffn(=eoq5"])
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(OptionError):
        TypeOptions(tensor_types=(text,))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TypeOptions(output_type="x"),
        lambda: TypeOptions(token_embd_type="x"),
        lambda: TypeOptions(tensor_types=("a=x",)),
    ],
    ids=["output_type", "token_embd_type", "tensor_types"],
)
def test_every_option_that_names_a_type_is_checked_at_once(make: Callable[[], TypeOptions]) -> None:
    with pytest.raises(UnknownTypeError):
        make()


def test_the_smallest_type_that_any_weight_may_get() -> None:
    assert TypeOptions().least_bits_per_weight == 4.125
    assert TypeOptions("eoq5", token_embd_type="eoq4").least_bits_per_weight == 4.125
    assert TypeOptions("eoq6", output_type="q4_0").least_bits_per_weight == 4.5
    assert TypeOptions("eoq6", tensor_types=("ffn=q8_0", "attn=eoq2")).least_bits_per_weight == 2.125


def test_numbers_of_threads_that_mean_nothing() -> None:
    with pytest.raises(OptionError, match="number of threads must be at least 1, not 0"):
        ConversionOptions(threads=0)
    with pytest.raises(OptionError, match="number of threads must be at least 1, not -3"):
        check_threads(-3)
    with pytest.raises(OptionError, match="number of threads must be at most 4096, not 9999"):
        check_threads(9999)
    check_threads(1)


def test_what_is_recorded_is_what_decides_the_bytes() -> None:
    rtn = ConversionOptions(
        TypeOptions("EOQ3", output_type="Q8_0", tensor_types=("ffn=EOQ5", "x=f16")),
        RoundingOptions("nearest", awq=False),
        threads=7,
    )
    assert rtn.recorded() == ["type=eoq3", "output-type=q8_0", "tensor-type=ffn=eoq5", "tensor-type=x=f16"]
    assert ConversionOptions(rounding=RoundingOptions("nearest", awq=False)).recorded("ewq, 12ab") == [
        "type=eoq4",
        "plan=ewq, 12ab",
    ]
    requantised = ConversionOptions(
        rounding=RoundingOptions(damping=0.1, shrinkage=0.25), source=SourceAccess(allow_requantize=True)
    )
    assert requantised.recorded() == [
        "type=eoq4",
        "rounding=feedback",
        "awq=auto",
        "shrinkage=0.25",
        "damping=0.1",
        "allow-requantize",
    ]
    assert ConversionOptions(rounding=RoundingOptions("nearest")).recorded() == [
        "type=eoq4",
        "rounding=nearest",
        "awq=auto",
        "shrinkage=auto",
    ]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RoundingOptions("up"), "no rounding 'up'; choose feedback or nearest"),
        (lambda: RoundingOptions(damping=0), "damping must be above 0"),
        (lambda: RoundingOptions(shrinkage=1.5), "shrinkage must be at least 0 and at most 1, not 1.5"),
        (lambda: RoundingOptions(shrinkage=-0.1), "shrinkage must be at least 0"),
        (
            lambda: ConversionOptions(rounding=RoundingOptions("nearest", awq=False), statistics=Path("s")),
            "the statistics s would have no use",
        ),
    ],
    ids=["rounding", "damping", "shrinkage above 1", "shrinkage below 0", "statistics"],
)
def test_options_of_calibration_that_mean_nothing(make: Callable[[], object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()


@pytest.mark.parametrize("text", ["model-name=A = B", "--model-name=A = B"])
def test_an_option_of_the_hf_converter(text: str) -> None:
    option = parse_hf_option(text)
    assert option == HfOption("model-name", "A = B") and option.words == ["--model-name=A = B"]
    assert parse_hf_option("no-mtp").words == ["--no-mtp"]


def test_files_of_the_hf_converter_are_recorded_without_their_place(tmp_path: Path) -> None:
    file = tmp_path / "card.json"
    file.write_text("{}")
    access = SourceAccess(hf_options=(f"metadata={file}", "fuse-qkv", "model-name=A"))
    assert [option.file for option in access.converter_options] == [file, None, None]
    assert ConversionOptions(source=access).recorded()[-3:] == [
        "hf-option=metadata",
        "hf-option=fuse-qkv",
        "hf-option=model-name=A",
    ]


@pytest.mark.parametrize("text", ["", "=x", "outfile=x", "no-mtp=", "model-name=", "metadata=/", "verbose", "MTP"])
def test_what_is_not_passed_on_to_the_hf_converter(text: str) -> None:
    with pytest.raises(OptionError, match="--hf-option"):
        SourceAccess(hf_options=(text,))
