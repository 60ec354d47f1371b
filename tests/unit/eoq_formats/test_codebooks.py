"""Lloyd-Max levels against known optima, and the price of int8."""

import numpy as np
import pytest

from eoq_formats.codebooks import codebook, gaussian_mse

# mean squared error of the optimal quantiser of N(0, 1) with 4, 8, 16, 32, 64 levels (Max 1960; Lloyd 1982)
OPTIMA = {2: 0.117482, 3: 0.034548, 4: 0.009501, 5: 0.002505, 6: 0.000644}
LOST_AT_MOST = {2: 0.001, 3: 0.001, 4: 0.001, 5: 0.007, 6: 0.03}


@pytest.mark.parametrize("bits", OPTIMA)
def test_real_levels_reach_the_known_optimum(bits: int) -> None:
    assert codebook(bits).real_mse == pytest.approx(OPTIMA[bits], abs=1e-6)


@pytest.mark.parametrize("bits", OPTIMA)
def test_every_real_level_is_the_mean_of_its_cell(bits: int) -> None:
    levels = codebook(bits).real_levels
    # the error is stationary in every level: moving any one by h changes it by O(h^2) only
    h = 1e-4
    for i in range(len(levels)):
        moved = levels.copy()
        moved[i] += h
        back = levels.copy()
        back[i] -= h
        assert abs(gaussian_mse(moved) - gaussian_mse(back)) < 1e-12
        assert gaussian_mse(moved) > codebook(bits).real_mse


@pytest.mark.parametrize("bits", OPTIMA)
def test_integer_tables_lose_little(bits: int) -> None:
    book = codebook(bits)
    assert 0 <= book.mse / book.real_mse - 1 <= LOST_AT_MOST[bits]
    assert book.mse == pytest.approx(gaussian_mse(book.levels / book.factor), rel=1e-12)


@pytest.mark.parametrize("bits", OPTIMA)
def test_tables_are_symmetric_increasing_int8(bits: int) -> None:
    levels = codebook(bits).levels
    assert levels.dtype == np.int8 and len(levels) == 2**bits
    assert (np.diff(levels.astype(int)) > 0).all()
    assert (levels == -levels[::-1]).all() and abs(levels.astype(int)).max() <= 127


@pytest.mark.parametrize("bits", OPTIMA)
def test_factors_are_exact_binary_fractions(bits: int) -> None:
    factor = codebook(bits).factor
    assert factor * 1024 == int(factor * 1024)


@pytest.mark.parametrize("bits", OPTIMA)
def test_the_code_table_is_nearest_level_search(bits: int) -> None:
    book = codebook(bits)
    r = np.linspace(-128, 127.5, 8193)
    distance = np.abs(r[:, None] - book.levels.astype(float))
    nearest = len(book.levels) - 1 - distance[:, ::-1].argmin(axis=1)  # the upper of two equally near
    assert (book.code_of_doubled[np.floor(2 * r).astype(int) + 256] == nearest).all()
