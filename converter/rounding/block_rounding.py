"""Rounding the columns of one block, one after the other, for many rows at once.

`BlockRounding` says what is computed. On the CPU numba does it; on any other device torch does, all rows side by side.
The plain version that both are tested against is converter/rounding/feedback_reference.py. Blocks of
a trellis are rounded by numba wherever the rest is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from converter.rounding import feedback_kernels as block_kernels
from converter.rounding.hessian import BlockFactors
from converter.rounding.trellis_kernels import TrellisEffort, refit_trellis_units, round_trellis_rows
from eoq_formats.codebooks import codebook
from eoq_formats.reference import LEVEL_UNIT
from eoq_formats.trellis import trellis_code
from eoq_formats.types import WeightType

FIRST_SCALES = (0.96, 0.9333, 0.9867, 0.9067, 1.0133, 0.88, 1.04, 0.8533, 1.0667, 0.8267, 1.0933, 0.8, 1.12)
"""Scales tried for a block, relative to the one that gives its RMS; the likely ones first, since they save the rest."""
LATER_SCALES = (1.0, 0.975, 1.025, 0.95, 1.05)
"""Scales tried when a block is rounded again, relative to the one it has."""
TRELLIS_SCALES = {2: 1.03, 3: 1.02, 4: 1.07, 5: 1.16}
"""The best scale for a trellis by its bits: targets under feedback reach farther than the weights, and what lies beyond
the greatest level costs the more, the more bits there are."""

DESCENT_PASSES = 6
"""How often coordinate descent goes over a block at most."""


@dataclass
class RoundedBlock:
    """One block of many rows, in the rotated basis: weights = levels · units."""

    levels: torch.Tensor
    """int8 (rows, w)"""
    units: torch.Tensor
    """float32 (rows,), the rotated weight of one level: an fp16 scale d times 2^-12 √w"""
    codes: torch.Tensor | None = None
    """uint8 (rows, w), of a trellis, whose levels alone do not tell them"""

    @classmethod
    def empty(cls, rows: int, t: WeightType, device: torch.device) -> "RoundedBlock":
        """All zero."""
        codes = torch.zeros((rows, t.width), dtype=torch.uint8, device=device) if t.is_trellis else None
        levels = torch.zeros((rows, t.width), dtype=torch.int8, device=device)
        return cls(levels, torch.zeros(rows, device=device), codes)

    @property
    def weights(self) -> torch.Tensor:
        """float32 (rows, w)"""
        return self.levels.float() * self.units[:, None]


def unit_of_scale(t: WeightType) -> float:
    """Rotated weight of one level at scale d = 1."""
    return float(LEVEL_UNIT * np.sqrt(t.width))


def to_units(wanted: torch.Tensor, t: WeightType) -> torch.Tensor:
    """The nearest units that an fp16 scale can express; infinity becomes the largest."""
    unit = unit_of_scale(t)
    return (wanted / unit).clamp(0, 65504).half().float() * unit


class BlockRounding(Protocol):
    """The steps of error feedback that go column by column."""

    @property
    def first_scales(self) -> Sequence[float]:
        """Scales to try for a block, relative to the one that gives its RMS; the likely ones first."""
        ...

    @property
    def later_scales(self) -> Sequence[float]:
        """Scales to try when a block is rounded again, relative to the one it has."""
        ...

    def round(
        self,
        desired: torch.Tensor,
        weights: torch.Tensor,
        factor: torch.Tensor,
        pivots: torch.Tensor,
        candidates: torch.Tensor,
        block: RoundedBlock,
        limits: torch.Tensor | None,
    ) -> None:
        """Round with feedback inside the block, once for each candidate unit, and keep the cheapest.

        Column j of `desired` (rows, w), plus what the errors of the columns before push onto it through `factor`
        (w, w), goes to the nearest level; errors are measured against `weights` (rows, w). A candidate (rows, k) costs
        Σ pivots · (target - rounded)². A row of `block` changes only if the best is cheaper than its limit, float64.
        """
        ...

    def descend(self, gradient: torch.Tensor, factors: BlockFactors, block: RoundedBlock) -> None:
        """Move single levels, then the unit, wherever that lowers the cost while all other blocks stay.

        `gradient` (rows, w) is this block of E H and is used up.
        """
        ...


class CpuBlockRounding:
    """BlockRounding by numba, on the threads that numba was given."""

    first_scales = FIRST_SCALES
    later_scales = LATER_SCALES

    def __init__(self, t: WeightType) -> None:
        book = codebook(t.bits)
        self._levels = book.levels
        self._code_of = book.code_of_doubled
        self._scale_unit = unit_of_scale(t)

    def round(
        self,
        desired: torch.Tensor,
        weights: torch.Tensor,
        factor: torch.Tensor,
        pivots: torch.Tensor,
        candidates: torch.Tensor,
        block: RoundedBlock,
        limits: torch.Tensor | None,
    ) -> None:
        if limits is None:
            limits = torch.full((len(desired),), torch.inf, dtype=torch.float64)
        arrays = [_array(x) for x in (desired, weights, factor, pivots, candidates, limits)]
        block_kernels.round_rows(*arrays, self._levels, block.levels.numpy(), block.units.numpy())

    def descend(self, gradient: torch.Tensor, factors: BlockFactors, block: RoundedBlock) -> None:
        block_kernels.descend_rows(
            _array(gradient),
            _array(factors.matrix),
            self._levels,
            self._code_of,
            DESCENT_PASSES,
            self._scale_unit,
            block.levels.numpy(),
            block.units.numpy(),
        )


class TorchBlockRounding:
    """BlockRounding by torch on any device."""

    first_scales = FIRST_SCALES
    later_scales = LATER_SCALES

    def __init__(self, t: WeightType, device: torch.device) -> None:
        book = codebook(t.bits)
        self._type = t
        self._levels = torch.from_numpy(book.levels.astype(np.float32)).to(device)
        self._code_of = torch.from_numpy(book.code_of_doubled.astype(np.int64)).to(device)

    def round(
        self,
        desired: torch.Tensor,
        weights: torch.Tensor,
        factor: torch.Tensor,
        pivots: torch.Tensor,
        candidates: torch.Tensor,
        block: RoundedBlock,
        limits: torch.Tensor | None,
    ) -> None:
        rows, width = desired.shape
        tried = candidates.shape[1]
        usable = candidates > 0
        inverse = torch.where(usable, 1 / candidates, 0)
        moving = desired[:, None, :].repeat(1, tried, 1)
        levels = torch.zeros((rows, tried, width), dtype=torch.float32, device=desired.device)
        costs = torch.zeros((rows, tried), dtype=torch.float64, device=desired.device)
        for j in range(width):
            levels[:, :, j] = self._nearest(moving[:, :, j] * inverse)
            rounded = levels[:, :, j] * candidates
            missed = (moving[:, :, j] - rounded).double()
            costs += pivots[j].double() * missed * missed
            pushed = weights[:, j, None] - rounded
            moving[:, :, j + 1 :] += pushed[:, :, None] * factor[j, j + 1 :]
        costs[~usable] = torch.inf
        cheapest = costs.argmin(1)
        row = torch.arange(rows, device=desired.device)
        better = torch.isfinite(costs[row, cheapest])
        if limits is not None:
            better &= costs[row, cheapest] < limits
        block.levels[better] = levels[row, cheapest][better].to(torch.int8)
        block.units[better] = candidates[row, cheapest][better]

    def descend(self, gradient: torch.Tensor, factors: BlockFactors, block: RoundedBlock) -> None:
        units = block.units
        inverse = torch.where(units > 0, 1 / units, 0)
        levels = block.levels.float()
        diagonal = factors.matrix.diagonal()
        for _ in range(DESCENT_PASSES):
            before = levels.clone()
            for j in range(levels.shape[1]):
                wanted = levels[:, j] * units + gradient[:, j] / diagonal[j]
                level = torch.where(units > 0, self._nearest(wanted * inverse), levels[:, j])
                change = (levels[:, j] - level) * units
                levels[:, j] = level
                gradient += change[:, None] * factors.matrix[j]
            if torch.equal(before, levels):
                break
        along = torch.einsum("ij,ij->i", gradient, levels)
        curvature = torch.einsum("ij,jk,ik->i", levels, factors.matrix, levels)
        wanted = torch.where(curvature > 0, units + along / curvature, units)
        fitted = to_units(wanted, self._type)
        step = fitted - units
        better = (units > 0) & (fitted > 0) & (step * step * curvature - 2 * step * along < 0)
        block.units[better] = fitted[better]
        block.levels[:] = levels.to(torch.int8)

    def _nearest(self, values: torch.Tensor) -> torch.Tensor:
        # NaN is no place in the table
        doubled = (values.nan_to_num(nan=-128).clamp(-128, 127.5) * 2).floor().long() + 256
        return self._levels[self._code_of[doubled]]


class TrellisBlockRounding:
    """BlockRounding of trellis types by numba; what is on another device goes there and back.

    It tries fewer scales, as each takes a search, and the unit is fitted after the last.
    """

    first_steps: Sequence[float] = (1.0, 1.05, 0.95, 1.1, 0.9)
    """Scales tried for a block, relative to the best one; the likely ones first."""
    later_scales: Sequence[float] = (1.0,)

    def __init__(self, t: WeightType, effort: TrellisEffort) -> None:
        self._code = trellis_code(t.bits)
        self._scale_unit = unit_of_scale(t)
        self._effort = effort
        self.first_scales = [TRELLIS_SCALES[t.bits] * step for step in self.first_steps[: effort.candidates]]

    def round(
        self,
        desired: torch.Tensor,
        weights: torch.Tensor,
        factor: torch.Tensor,
        pivots: torch.Tensor,
        candidates: torch.Tensor,
        block: RoundedBlock,
        limits: torch.Tensor | None,
    ) -> None:
        assert block.codes is not None
        if limits is None:
            limits = torch.full((len(desired),), torch.inf, dtype=torch.float64)
        parts = block.codes, block.levels, block.units
        codes, levels, units = (_array(x) for x in parts)
        costs = np.empty(len(desired), dtype=np.float64)
        round_trellis_rows(
            _array(desired),
            _array(weights),
            _array(factor),
            _array(pivots),
            _array(candidates),
            _array(limits),
            self._code,
            self._effort,
            codes,
            levels,
            units,
            costs,
        )
        if block.units.device.type != "cpu":
            for part, array in zip(parts, (codes, levels, units), strict=True):
                part.copy_(torch.from_numpy(array))

    def descend(self, gradient: torch.Tensor, factors: BlockFactors, block: RoundedBlock) -> None:
        """Move the unit alone: a level depends on the codes of its neighbours."""
        units = _array(block.units)
        refit_trellis_units(_array(gradient), _array(factors.matrix), _array(block.levels), self._scale_unit, units)
        if block.units.device.type != "cpu":
            block.units.copy_(torch.from_numpy(units))


def make_block_rounding(t: WeightType, device: torch.device, effort: TrellisEffort) -> BlockRounding:
    if t.is_trellis:
        return TrellisBlockRounding(t, effort)
    return CpuBlockRounding(t) if device.type == "cpu" else TorchBlockRounding(t, device)


def _array(x: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = x.contiguous().cpu().numpy()
    return array
