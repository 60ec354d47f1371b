"""What llama-perplexity prints is read in all its forms, and what is missing is named."""

import math

import pytest

from evaluation.errors import OutputError
from evaluation.perplexity_output import (
    Estimate,
    error_lines,
    parse_chunk_count,
    parse_chunks_done,
    parse_divergence,
    parse_perplexity,
)

DIVERGENCE = """
chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS
   1      12.5000 ±    2.0000       0.01000 ±    0.00500       0.02000 ±    0.00300     2.500 ±  0.300 %
   2      13.5000 ±    1.5000       0.02000 ±    0.00400       0.02500 ±    0.00200     2.600 ±  0.200 %

====== Perplexity statistics ======
Mean PPL(Q)                   :  13.500000 ±   1.500000
Mean PPL(base)                :  13.000000 ±   1.400000
Cor(ln(PPL(Q)), ln(PPL(base))):  99.50%
Mean ln(PPL(Q)/PPL(base))     :   0.037740 ±   0.004000
Mean PPL(Q)/PPL(base)         :   1.038462 ±   0.004154
Mean PPL(Q)-PPL(base)         :   0.500000 ±   0.050000

====== KL divergence statistics ======
Mean    KLD:   0.025000 ±   0.002000
Maximum KLD:   2.125000
99.9%   KLD:   1.250000
99.0%   KLD:   0.375000
95.0%   KLD:   0.125000
Median  KLD:   0.012500
 0.1%   KLD:  -0.000040
Minimum KLD:  -0.000050

====== Token probability statistics ======
Mean    Δp: -0.125 ± 0.025 %
Maximum Δp: 40.000%
RMS Δp    :  2.600 ± 0.200 %
Same top p: 91.000 ± 1.200 %
"""


def test_divergence() -> None:
    d = parse_divergence(DIVERGENCE)
    assert d.perplexity == Estimate(13.5, 1.5)
    assert d.stored_ratio == Estimate(1.038462, 0.004154)
    assert d.kld == Estimate(0.025, 0.002)
    assert (d.kld_median, d.kld_99, d.kld_999, d.kld_max) == (0.0125, 0.375, 1.25, 2.125)
    assert d.same_top == Estimate(0.91, 0.012)
    assert d.delta_p_rms == Estimate(0.026, 0.002)


def test_other_line_ends_and_signs() -> None:
    assert parse_divergence(DIVERGENCE.replace("\n", "\r\n")) == parse_divergence(DIVERGENCE)
    assert parse_divergence(DIVERGENCE.replace("±", "+/-")) == parse_divergence(DIVERGENCE)
    scientific = DIVERGENCE.replace("0.025000 ±   0.002000", "2.5e-02 ± 2.0e-03")
    assert parse_divergence(scientific) == parse_divergence(DIVERGENCE)


def test_an_error_that_is_no_number_is_kept_as_such() -> None:
    # the base compared with itself
    d = parse_divergence(DIVERGENCE.replace("1.038462 ±   0.004154", "1.000000 ±       -nan"))
    assert d.stored_ratio.value == 1 and math.isnan(d.stored_ratio.error)


@pytest.mark.parametrize("label", ["Mean    KLD", "Median  KLD", "99.0%   KLD", "Same top p", "Mean PPL(Q)/PPL(base)"])
def test_a_missing_line_is_named(label: str) -> None:
    lines = [line for line in DIVERGENCE.splitlines() if not line.startswith(label)]
    with pytest.raises(OutputError) as raised:
        parse_divergence("\n".join(lines))
    assert "printed no " + " ".join(label.split()) in str(raised.value)


@pytest.mark.parametrize("number", ["nan", "-nan", "inf"])
def test_a_divergence_that_is_no_number_is_an_error(number: str) -> None:
    with pytest.raises(OutputError, match="Mean KLD"):
        parse_divergence(DIVERGENCE.replace("0.025000", number))


def test_perplexity_is_found_after_the_end_of_another_message() -> None:
    assert parse_perplexity("x 6.16 seconds - ETA 0.07 I Final estimate: PPL = 25.2098 +/- 4.61544\n") == Estimate(
        25.2098, 4.61544
    )


@pytest.mark.parametrize("output", ["", "Final estimate: PPL = nan +/- nan"])
def test_no_perplexity(output: str) -> None:
    with pytest.raises(OutputError):
        parse_perplexity(output)


def test_chunks() -> None:
    assert parse_chunk_count("0.5 I perplexity: tokenizing") is None
    assert parse_chunk_count("0.5 I perplexity: calculating perplexity over 58 chunks, n_ctx=512") == 58
    assert parse_chunk_count("0.5 I kl_divergence: computing over 7 chunks, n_ctx=512") == 7
    assert parse_chunks_done("0.02 minutes\n") == 0
    assert parse_chunks_done("0.02 minutes\n[1]28.6487,[2]25.2098,[3]2") == 3
    assert parse_chunks_done("[1]nan,[2]-nan,") == 2
    assert parse_chunks_done(DIVERGENCE) == 2


def test_error_lines() -> None:
    output = (
        "0.00.1 I system_info: n_threads = 2 | E = 1\n"
        "0.00.2 E load: tensor 'x' is missing\n0.00.2 E load: tensor 'x' is missing\n0.00.3 E main: no model\n"
    )
    assert error_lines(output) == "load: tensor 'x' is missing; main: no model"
    assert (
        error_lines("loading\nsrc/a.cpp:12: GGML_ASSERT(n > 0) failed\n") == "src/a.cpp:12: GGML_ASSERT(n > 0) failed"
    )
    assert error_lines("one\ntwo\n\n") == "two"
    assert error_lines("") == "nothing"
