"""Error feedback: the codes of the plain version, never a worse objective, and fallbacks that say so."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as T
from numpy.typing import NDArray

from converter.plan import TensorPlan
from converter.rounding import RoundedRows, RoundToNearest, WeightedError, feedback_reference
from converter.rounding.block_rounding import (
    FIRST_SCALES,
    BlockRounding,
    CpuBlockRounding,
    RoundedBlock,
    TorchBlockRounding,
    TrellisBlockRounding,
    to_units,
)
from converter.rounding.error_feedback import ErrorFeedback, FeedbackOptions, FeedbackState
from converter.rounding.hessian import DiagonalHessian, FullHessian, damped_hessian
from converter.statistics import Statistics
from converter.statistics.factor import Basis, Factor, factorise
from eoq_formats import kernels, reference
from eoq_formats.errors import NonFiniteWeightError, ScaleOverflowError
from eoq_formats.types import WeightType, weight_type, weight_type_for_row
from gguf_files.weights import Floats, RowWorkers
from tests.samples.memory_model import MemoryStatistics, MemoryWeights

NAME = "blk.0.ffn_up.weight"
TYPES = [weight_type(name) for name in ("eoq2", "eoq3_64", "eoq4", "eoq5_64", "eoq6")]
TRELLIS = [weight_type(name) for name in ("eoq2t_64", "eoq3t", "eoq4t_128", "eoq5t_64")]


def correlated(tokens: int, n: int, seed: int = 0) -> NDArray[np.float64]:
    """Inputs with a few strong directions and channels of very different energy, as in a model."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((8, n)) * 2
    energies = np.exp(random.standard_normal(n))
    inputs = np.asarray(random.standard_normal((tokens, 8)) @ mixing + random.standard_normal((tokens, n)))
    inputs *= energies
    return inputs


def random_rows(rows: int, n: int, seed: int = 1) -> Floats:
    return np.random.default_rng(seed).standard_normal((rows, n)).astype(np.float32)


def moments_of(inputs: NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy((inputs.T @ inputs / len(inputs)).astype(np.float32))


def factor_of(moments: torch.Tensor, width: int) -> Factor:
    factor = factorise(moments, Basis(width), 0.02)
    assert factor is not None
    return factor


def full_hessian(inputs: NDArray[np.float64], width: int) -> FullHessian:
    return FullHessian(factor_of(moments_of(inputs), width))


def round_tensor(
    weights: Floats, statistics: Statistics, t: WeightType, options: FeedbackOptions | None = None
) -> list[RoundedRows]:
    model = MemoryWeights({NAME: weights})
    with RowWorkers(2) as workers:
        rounding = ErrorFeedback(statistics, RoundToNearest(workers), options or FeedbackOptions())
        return list(rounding.round(TensorPlan(model.info(NAME), T(t.id), ""), model))


def joined(parts: list[RoundedRows]) -> NDArray[np.uint8]:
    return np.concatenate([part.data for part in parts])


def total(parts: list[RoundedRows]) -> WeightedError:
    errors = [part.weighted for part in parts if part.weighted is not None]
    assert len(errors) == len(parts)
    return sum(errors, start=WeightedError.none())


@pytest.mark.parametrize("t", TYPES, ids=lambda t: t.name)
def test_the_first_pass_gives_the_codes_of_the_plain_version(t: WeightType) -> None:
    n = 3 * t.width
    hessian = full_hessian(correlated(500, n), t.width)
    weights = torch.from_numpy(random_rows(4, n))
    state = FeedbackState(weights, t, hessian)
    state.first_pass()
    matrix = hessian.product(torch.eye(n)).double().numpy()
    for i, row in enumerate(weights.double().numpy()):
        expected = feedback_reference.first_pass(row, matrix, t, FIRST_SCALES)
        assert np.array_equal(torch.cat([b.levels[i] for b in state.blocks]).numpy(), expected.levels)
        assert [float(b.units[i]) for b in state.blocks] == pytest.approx(expected.units, rel=1e-7)


def test_descent_gives_the_codes_of_the_plain_version() -> None:
    t = weight_type("eoq3_64")
    n = 2 * t.width
    hessian = full_hessian(correlated(500, n), t.width)
    matrix = hessian.product(torch.eye(n)).double().numpy()
    weights = torch.from_numpy(random_rows(3, n))
    state = FeedbackState(weights, t, hessian)
    state.first_pass()
    expected = [feedback_reference.first_pass(row, matrix, t, FIRST_SCALES) for row in weights.double().numpy()]
    before = [
        feedback_reference.cost(r, w, matrix, t.width) for r, w in zip(expected, weights.double().numpy(), strict=True)
    ]
    gradient = hessian.product(state.errors)[:, t.width :].contiguous()
    CpuBlockRounding(t).descend(gradient, hessian.blocks[1], state.blocks[1])
    for i, (row, weight) in enumerate(zip(expected, weights.double().numpy(), strict=True)):
        feedback_reference.descend(row, weight, matrix, t, 1, passes=6)
        assert np.array_equal(state.blocks[1].levels[i].numpy(), row.levels[t.width :])
        assert float(state.blocks[1].units[i]) == pytest.approx(row.units[1], rel=1e-7)
        assert feedback_reference.cost(row, weight, matrix, t.width) < before[i]


@pytest.mark.parametrize("t", TYPES, ids=lambda t: t.name)
def test_torch_and_numba_choose_the_same_codes(t: WeightType) -> None:
    hessian = full_hessian(correlated(300, 2 * t.width), t.width)
    factors = hessian.blocks[0]
    targets, weights = torch.from_numpy(random_rows(6, t.width)), torch.from_numpy(random_rows(6, t.width, 2))
    targets[0] = 0
    candidates = to_units(targets.square().mean(1).sqrt()[:, None] / 30 * torch.tensor([1.0, 0.9, 1.1]), t)
    limits = torch.full((6,), torch.inf, dtype=torch.float64)
    limits[1] = 0
    results = []
    for rounding in (CpuBlockRounding(t), TorchBlockRounding(t, torch.device("cpu"))):
        rounding_: BlockRounding = rounding
        block = RoundedBlock(torch.zeros((6, t.width), dtype=torch.int8), torch.zeros(6))
        rounding_.round(targets, weights, factors.factor, factors.pivots, candidates, block, limits)
        once = block.levels.clone(), block.units.clone()
        rounding_.descend((weights - block.weights) @ factors.matrix, factors, block)
        results.append((*once, block.levels, block.units))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert (results[0][1][:2] == 0).all() and (results[0][1][2:] > 0).all()


@pytest.mark.parametrize("t", TRELLIS, ids=lambda t: t.name)
def test_a_trellis_beats_the_scalar_type_of_its_bits(t: WeightType) -> None:
    inputs, weights = correlated(600, 2 * t.width), random_rows(20, 2 * t.width)
    scalar = weight_type_for_row(f"eoq{t.bits}", 2 * t.width)
    assert scalar is not None
    errors = [total(round_tensor(weights, MemoryStatistics({NAME: inputs}), one)).final for one in (t, scalar)]
    assert errors[0] < 0.8 * errors[1]


def test_torch_rounds_a_whole_tensor_as_numba_does(monkeypatch: pytest.MonkeyPatch) -> None:
    t = weight_type("eoq4")
    weights, statistics = random_rows(8, 256), MemoryStatistics({NAME: correlated(400, 256)})
    by_numba = joined(round_tensor(weights, statistics, t))
    monkeypatch.setattr(
        "converter.rounding.error_feedback.make_block_rounding", lambda t, device, effort: TorchBlockRounding(t, device)
    )
    by_torch = joined(round_tensor(weights, statistics, t))
    # sums of a scale's least-squares fit may differ in the last bit, and with it a scale
    assert np.mean(by_numba != by_torch) < 0.01


@pytest.mark.parametrize("t", [*TYPES, *TRELLIS], ids=lambda t: t.name)
def test_the_written_codes_have_the_error_that_is_reported(t: WeightType) -> None:
    inputs = correlated(600, 4 * t.width)
    weights = random_rows(20, 4 * t.width)
    parts = round_tensor(weights, MemoryStatistics({NAME: inputs}), t, FeedbackOptions(effort=3))
    decoded = reference.dequantize(joined(parts), t).astype(np.float64)
    errors = total(parts)
    outputs = np.square(inputs @ (weights - decoded).T).sum() / len(inputs)
    assert errors.final == pytest.approx(outputs, rel=1e-2)
    assert errors.signal == pytest.approx(np.square(inputs @ weights.T).sum() / len(inputs), rel=1e-3)
    assert sum(part.error for part in parts) == pytest.approx(np.square(weights - decoded).sum(), rel=1e-4)
    to_nearest = kernels.dequantize(kernels.quantize(weights, t).data, t)
    assert errors.nearest == pytest.approx(np.square(inputs @ (weights - to_nearest).T).sum() / len(inputs), rel=1e-2)
    assert errors.final < errors.feedback < 0.7 * errors.nearest
    assert {part.method for part in parts} == {"feedback"}


def test_more_sweeps_never_cost_more() -> None:
    weights, statistics = random_rows(16, 512), MemoryStatistics({NAME: correlated(800, 512)})
    finals = [
        total(round_tensor(weights, statistics, weight_type("eoq2"), FeedbackOptions(sweeps=n))).final for n in range(4)
    ]
    assert all(b <= a for a, b in pairwise(finals)) and finals[3] < 0.98 * finals[0]


def test_uncorrelated_inputs_use_the_diagonal_alone() -> None:
    """With an imatrix, the Hessian is the rotated diagonal: the same as the full one without its correlations."""
    t = weight_type("eoq4")
    inputs = correlated(600, 256)
    diagonal = torch.from_numpy(np.square(inputs).mean(0).astype(np.float32))
    by_blocks = DiagonalHessian(factor_of(diagonal, t.width))
    full = FullHessian(factor_of(torch.diag(diagonal), t.width))
    errors = torch.from_numpy(random_rows(5, 256))
    ordered = errors.reshape(5, -1, t.width)[:, torch.from_numpy(full.order)].reshape(5, -1)
    assert np.allclose(by_blocks.costs(errors), full.costs(ordered), rtol=1e-4)
    parts = round_tensor(random_rows(20, 256), MemoryStatistics({NAME: inputs}, diagonal_only=True), t)
    assert total(parts).final < 0.9 * total(parts).nearest


def test_chunks_do_not_change_the_codes() -> None:
    weights, statistics = random_rows(24, 256), MemoryStatistics({NAME: correlated(400, 256)})
    whole = round_tensor(weights, statistics, weight_type("eoq3"))
    pieces = round_tensor(weights, statistics, weight_type("eoq3"), FeedbackOptions(chunk_weights=7 * 256))
    assert len(whole) == 1 and len(pieces) == 4
    # matrix products of other sizes may sum in another order, which can turn a tie
    assert np.mean(joined(whole) != joined(pieces)) < 0.01


def test_experts_have_their_own_moments_and_those_with_few_tokens_the_mean_of_all() -> None:
    t = weight_type("eoq4_64")
    rows = random_rows(24, 128)
    inputs = [correlated(400, 128, seed=i) for i in range(2)] + [correlated(3, 128, seed=9)]
    parts = round_tensor(rows.reshape(3, 8, 128), MemoryStatistics({NAME: inputs}), t)
    for expert in range(2):
        alone = round_tensor(rows[8 * expert : 8 * expert + 8], MemoryStatistics({NAME: inputs[expert]}), t)
        assert np.array_equal(alone[0].data, parts[expert].data)
    said = ("1 of 3 experts saw too few tokens: they use the moments of all",)
    assert all(part.notes == said for part in parts)  # of which a report has one
    assert np.isfinite(total(parts).final)


@pytest.mark.parametrize("inputs", [np.zeros((50, 128)), np.full((50, 128), np.nan)], ids=["zero", "nan"])
def test_moments_that_say_nothing_fall_back_to_nearest(inputs: NDArray[np.float64]) -> None:
    weights = random_rows(4, 128)
    (part,) = round_tensor(weights, MemoryStatistics({NAME: inputs}), weight_type("eoq4"))
    assert np.array_equal(part.data, kernels.quantize(weights, weight_type("eoq4")).data)
    assert part.method == "nearest" and "cannot be factorised" in part.notes[0]


def test_damping_grows_until_the_hessian_can_be_factorised() -> None:
    indefinite = torch.eye(128)
    indefinite[0, 1] = indefinite[1, 0] = 1.05
    hessian = damped_hessian(indefinite, Basis(128), 0.01)
    assert hessian is not None and hessian.damping == pytest.approx(0.1)
    assert damped_hessian(-torch.eye(128), Basis(128), 0.01) is None


def test_rows_that_feedback_makes_worse_are_rounded_to_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CpuBlockRounding, "first_scales", (100.0,))
    weights, t = random_rows(4, 128), weight_type("eoq4")
    statistics = MemoryStatistics({NAME: correlated(200, 128)})
    (part,) = round_tensor(weights, statistics, t, FeedbackOptions(sweeps=0))
    assert np.array_equal(part.data, kernels.quantize(weights, t).data)
    assert part.better_to_nearest == 4 and part.notes == ()
    assert part.weighted is not None and part.weighted.final == part.weighted.nearest


def test_of_a_trellis_some_rows_stand_for_what_rounding_to_nearest_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    t = weight_type("eoq3t_64")
    inputs, weights = correlated(300, 128), random_rows(500, 128)
    seen: list[int] = []
    whole = RoundToNearest.round_rows

    def counted(self: RoundToNearest, plan: TensorPlan, rows: Floats, numbers: Sequence[int]) -> RoundedRows:
        seen.extend(numbers)
        return whole(self, plan, rows, numbers)

    monkeypatch.setattr(RoundToNearest, "round_rows", counted)
    parts = round_tensor(weights, MemoryStatistics({NAME: inputs}), t)
    assert len(seen) < 200 and len(set(seen)) == len(seen)
    missed = weights - kernels.dequantize(kernels.quantize(weights, t).data, t)
    expected = np.square(inputs @ missed.T).sum() / len(inputs)
    assert total(parts).nearest == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rows", [4, 300])
def test_rows_of_a_trellis_that_feedback_makes_worse_are_rounded_to_nearest(
    rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrellisBlockRounding, "first_steps", (100.0,))
    weights, t = random_rows(rows, 64), weight_type("eoq2t_64")
    (part,) = round_tensor(weights, MemoryStatistics({NAME: correlated(200, 64)}), t)
    assert np.array_equal(part.data, kernels.quantize(weights, t).data)
    assert part.better_to_nearest == rows and part.notes == ()
    assert part.weighted is not None and part.weighted.final == pytest.approx(part.weighted.nearest, rel=1e-12)


@pytest.mark.parametrize("row", [0, 5, 499])
def test_a_scale_that_a_trellis_cannot_express_is_found_in_any_row(row: int) -> None:
    weights = random_rows(500, 64)
    weights[row] *= 1e9
    with pytest.raises(ScaleOverflowError, match=f"row {row}:"):
        round_tensor(weights, MemoryStatistics({NAME: correlated(200, 64)}), weight_type("eoq2t_64"))


def test_without_statistics_or_with_an_ordinary_type_rounds_to_nearest() -> None:
    weights = random_rows(4, 128)
    t = weight_type("eoq4")
    statistics = MemoryStatistics({"other": correlated(50, 128)})
    (part,) = round_tensor(weights, statistics, t)
    assert np.array_equal(part.data, kernels.quantize(weights, t).data)
    assert part.method == "nearest" and part.notes == ("no statistics: rounded to nearest",)
    model = MemoryWeights({NAME: weights})
    with RowWorkers(1) as workers:
        rounding = ErrorFeedback(statistics, RoundToNearest(workers), FeedbackOptions())
        (part,) = rounding.round(TensorPlan(model.info(NAME), T.Q8_0, ""), model)
    assert part.method == "nearest" and part.notes == ()


def test_damaged_weights_are_named() -> None:
    weights = random_rows(4, 128)
    weights[2, 5] = np.nan
    with pytest.raises(NonFiniteWeightError, match=r"blk\.0\.ffn_up\.weight .* row 2"):
        round_tensor(weights, MemoryStatistics({NAME: correlated(50, 128)}), weight_type("eoq4"))


def test_zero_weights_stay_zero() -> None:
    weights = np.zeros((3, 256), dtype=np.float32)
    weights[1, :128] = random_rows(1, 128)
    parts = round_tensor(weights, MemoryStatistics({NAME: correlated(300, 256)}), weight_type("eoq4"))
    decoded = kernels.dequantize(joined(parts), weight_type("eoq4"))
    assert not decoded[[0, 2]].any() and decoded[1].any()
    assert not joined(parts)[[0, 2]].any()
