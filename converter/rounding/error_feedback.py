"""Rounding with error feedback: each column takes on what the rounding of those before it did to the outputs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from converter.plan import TensorPlan
from converter.rounding.block_rounding import (
    BlockRounding,
    RoundedBlock,
    make_block_rounding,
    to_units,
    unit_of_scale,
)
from converter.rounding.cost import feedback_cost
from converter.rounding.hessian import Hessian, damped_hessian
from converter.rounding.nearest import RoundToNearest
from converter.rounding.rounded_rows import RoundedRows, WeightedError, row_chunks
from converter.rounding.trellis_kernels import EFFORTS, TrellisEffort
from converter.statistics import Statistics
from converter.statistics.factor import Basis, rotation_matrix
from eoq_formats import kernels
from eoq_formats.trellis import code_of
from eoq_formats.types import WeightType
from gguf_files.finite import check_finite
from gguf_files.tensor_types import eoq_type
from gguf_files.weights import Bytes, Floats, WeightReader

_SAMPLE = 64
_SPARSEST_SAMPLE = 16
"""Of a trellis, about so many rows, but at least one in so many, are rounded to nearest too, for the report; and any
row that costs more by feedback than these do on average."""
_WORTHWHILE = 1 - 1e-6
"""A block is rounded again only for at least this gain, which is above the rounding of float32 sums."""


@dataclass(frozen=True)
class FeedbackOptions:
    """How hard error feedback tries, and where."""

    damping: float = 0.02
    """Added to the diagonal of the moments, relative to its mean; ten times as much where that is not enough."""
    sweeps: int = 2
    """How often all blocks of a scalar type are rounded again, each against the final codes of all others."""
    device: str = "cpu"
    """A torch device."""
    effort: int = 2
    """How widely a trellis is searched, 1 to 3."""
    chunk_weights: int = 1 << 24
    """Weights in memory at a time; five float32 arrays of this size are held."""


class ErrorFeedback:
    """Rounds with the second moments of the inputs. What has none, or a type other than EOQ, goes to nearest."""

    method = "error-feedback"

    def __init__(self, statistics: Statistics, nearest: RoundToNearest, options: FeedbackOptions) -> None:
        self._statistics = statistics
        self._nearest = nearest
        self._options = options
        self._device = torch.device(options.device)
        self._hessian: tuple[tuple[str, int, Basis], Hessian | None] | None = None
        self._trial: tuple[NDArray[np.float32], Basis, Hessian | None] | None = None

    def round(self, plan: TensorPlan, weights: WeightReader) -> Iterator[RoundedRows]:
        eoq = eoq_type(plan.type)
        if eoq is None or plan.tensor.name not in self._statistics:
            missing = () if eoq is None else ("no statistics: rounded to nearest",)
            for part in self._nearest.round(plan, weights):
                yield replace(part, notes=missing)
            return
        matrices = len(self._statistics.counts(plan.tensor.name))
        notes: tuple[str, ...] = ()
        if pooled := self._statistics.pooled_experts(plan.tensor.name):
            notes = (f"{len(pooled)} of {matrices} experts saw too few tokens: they use the moments of all",)
        for expert in range(matrices):
            hessian = self._get_hessian(plan.tensor.name, expert, eoq)
            height = plan.tensor.rows // matrices
            for start, stop in row_chunks(plan.tensor, self._options.chunk_weights, height):
                start, stop = start + expert * height, stop + expert * height
                rows, numbers = weights.read(plan.tensor, start, stop), range(start, stop)
                if hessian is None:
                    to_nearest = self._nearest.round_rows(plan, rows, numbers)
                    yield replace(to_nearest, notes=(*notes, "moments that cannot be factorised: rounded to nearest"))
                    continue
                yield self._round_rows(plan, rows, numbers, eoq, hessian, notes)

    def cost(self, plan: TensorPlan) -> int:
        eoq = eoq_type(plan.type)
        if eoq is None or plan.tensor.name not in self._statistics:
            return self._nearest.cost(plan)
        return feedback_cost(eoq, plan.tensor.row_length, self._options.effort)

    def trial(self, rows: Floats, t: WeightType, moments: NDArray[np.float32]) -> Floats:
        """What rows float32 (k, n) become by the first pass, for comparing ways to scale them.

        `moments` float32 is (n, n), or (n,) where only the mean squares are known.
        """
        if self._trial is None or self._trial[0] is not moments or self._trial[1] != Basis.of(t):
            self._trial = None
            hessian = damped_hessian(torch.from_numpy(moments).to(self._device), Basis.of(t), self._options.damping)
            self._trial = moments, Basis.of(t), hessian
        hessian = self._trial[2]
        if hessian is None:
            return kernels.dequantize(kernels.quantize(rows, t).data, t)
        rotation = rotation_matrix(Basis.of(t)).to(self._device)
        state = FeedbackState(_rotated(rows, hessian.order, rotation), t, hessian, EFFORTS[1])
        state.first_pass()
        return kernels.dequantize(state.packed(), t)

    def _get_hessian(self, name: str, expert: int, eoq: WeightType) -> Hessian | None:
        """The Hessian of a matrix; None where its moments have none.

        Tensors with the same input come one after the other, so the last one is worth keeping.
        """
        key = self._statistics.input_key(name), expert, Basis.of(eoq)
        if self._hessian is None or self._hessian[0] != key:
            self._hessian = None  # frees its memory first
            moments = self._statistics.for_rounding(name, expert)
            on_device = torch.from_numpy(moments.values).to(self._device)
            hessian = damped_hessian(on_device, Basis.of(eoq), self._options.damping)
            self._hessian = key, hessian
        return self._hessian[1]

    def _round_rows(
        self,
        plan: TensorPlan,
        rows: Floats,
        numbers: Sequence[int],
        t: WeightType,
        hessian: Hessian,
        notes: tuple[str, ...],
    ) -> RoundedRows:
        check_finite(np.isfinite(rows), plan.tensor, numbers)
        weights = _rotated(rows, hessian.order, rotation_matrix(Basis.of(t)).to(self._device))
        signals = hessian.costs(weights)
        nearest = _NearestRows(self._nearest, plan, rows, numbers, t, weights, hessian)
        step = min(max(len(rows) // _SAMPLE, 1), _SPARSEST_SAMPLE) if t.is_trellis else 1
        nearest.round(np.arange(len(rows)) % step == 0)
        state = FeedbackState(weights, t, hessian, EFFORTS[self._options.effort])
        state.first_pass()
        product = hessian.product(state.errors)
        first_costs = hessian.costs(state.errors, product)
        for _ in range(EFFORTS[self._options.effort].sweeps if t.is_trellis else self._options.sweeps):
            state.sweep(product)
        costs = hessian.costs(state.errors, product)
        data, errors = state.packed(), (state.errors.double() ** 2).sum(1).cpu().numpy()
        usual = nearest.costs[nearest.known].sum() / max(signals[nearest.known].sum(), np.finfo(np.float64).tiny)
        # rows whose costs are no number are among the doubtful
        nearest.round(~nearest.known & ~(costs <= usual * signals))
        worse = nearest.known & ~(costs <= nearest.costs)
        if worse.any():
            data[worse], errors[worse], costs[worse] = nearest.data[worse], nearest.errors[worse], nearest.costs[worse]
        weighted = WeightedError(
            float(signals.sum()),
            float(np.where(nearest.known, nearest.costs, usual * signals).sum()),
            float(np.fmin(first_costs, nearest.costs).sum()),
            float(costs.sum()),
        )
        signal = float(np.einsum("ij,ij->", rows, rows, dtype=np.float64))
        return RoundedRows(
            data, signal, float(errors.sum()), "feedback", weighted, hessian.damping, notes, int(worse.sum())
        )


class _NearestRows:
    """What rows become by rounding to nearest, as far as it is known: of a trellis that takes long."""

    def __init__(
        self,
        rounding: RoundToNearest,
        plan: TensorPlan,
        rows: Floats,
        numbers: Sequence[int],
        t: WeightType,
        rotated: torch.Tensor,
        hessian: Hessian,
    ) -> None:
        self._rounding, self._plan, self._rows, self._numbers = rounding, plan, rows, numbers
        self._type, self._rotated, self._hessian = t, rotated, hessian
        self.known = np.zeros(len(rows), dtype=np.bool_)
        self.data = np.zeros((len(rows), t.row_bytes(rows.shape[1])), dtype=np.uint8)
        self.errors = np.full(len(rows), np.nan)
        """Squared errors of the weights."""
        self.costs = np.full(len(rows), np.nan)
        """Errors of the outputs."""

    def round(self, which: NDArray[np.bool_]) -> None:
        """Round these rows, bool (rows,). Raises ScaleOverflowError."""
        if not which.any():
            return
        numbers = [self._numbers[i] for i in np.flatnonzero(which)]
        self.data[which] = self._rounding.round_rows(self._plan, self._rows[which], numbers).data
        rotation = rotation_matrix(Basis.of(self._type)).to(self._rotated.device)
        rounded = _rotated(kernels.dequantize(self.data[which], self._type), self._hessian.order, rotation)
        missed = self._rotated[torch.from_numpy(which).to(self._rotated.device)] - rounded
        self.errors[which] = (missed.double() ** 2).sum(1).cpu().numpy()
        self.costs[which] = self._hessian.costs(missed)
        self.known |= which


class FeedbackState:
    """Rows of a tensor while their codes are chosen; blocks stand in the order of rounding."""

    def __init__(
        self, weights: torch.Tensor, t: WeightType, hessian: Hessian, effort: TrellisEffort = EFFORTS[2]
    ) -> None:
        """Rotated weights float32 (rows, n), blocks in the Hessian's order."""
        self.errors = torch.zeros_like(weights)
        """Weights minus rounded weights, (rows, n)."""
        self._weights = weights
        self._type = t
        self._factor = code_of(t).factor
        self._hessian = hessian
        self._rounding: BlockRounding = make_block_rounding(t, weights.device, effort)
        self.blocks = [RoundedBlock.empty(len(weights), t, weights.device) for _ in hessian.blocks]

    def first_pass(self) -> None:
        """Round the blocks in turn; each takes on the errors of those before."""
        for number, (block, factors) in enumerate(zip(self.blocks, self._hessian.blocks, strict=True)):
            weights = self._part(self._weights, number)
            pushed = self._hessian.feedback(self.errors, number)
            desired = weights if pushed is None else weights + pushed
            root_mean_square = desired.double().square().mean(1).sqrt().float()
            candidates = self._candidates(root_mean_square / self._factor, self._rounding.first_scales)
            self._rounding.round(desired, weights, factors.factor, factors.pivots, candidates, block, None)
            self._part(self.errors, number)[:] = weights - block.weights

    def sweep(self, product: torch.Tensor) -> None:
        """Round every block again while all others stay; none becomes worse by it.

        `product` is E H, (rows, n), and is kept up to date.
        """
        for number, (block, factors) in enumerate(zip(self.blocks, self._hessian.blocks, strict=True)):
            before = block.weights
            slope = self._part(product, number)
            missing = slope @ factors.inverse
            limits = ((missing @ factors.own_factor).double().square() @ factors.own_pivots.double()) * _WORTHWHILE
            desired = before + missing
            candidates = self._candidates(block.units, self._rounding.later_scales)
            self._rounding.round(desired, desired, factors.own_factor, factors.own_pivots, candidates, block, limits)
            gradient = slope + (before - block.weights) @ factors.matrix
            self._rounding.descend(gradient, factors, block)
            change = before - block.weights
            self._hessian.add_product(change, number, product)
            self._part(self.errors, number).add_(change)

    def packed(self) -> Bytes:
        """The rows as bytes of the type, uint8 (rows, row bytes), blocks in the order of the file."""
        place = np.argsort(self._hessian.order)
        units = torch.stack([self.blocks[i].units for i in place], dim=1)
        scales: NDArray[np.float16] = (units / unit_of_scale(self._type)).half().cpu().numpy()
        if self._type.is_trellis:
            codes = torch.stack([_codes(self.blocks[i]) for i in place], dim=1)
            return kernels.pack_chains(codes.reshape(len(codes), -1).cpu().numpy(), scales, self._type)
        levels = torch.stack([self.blocks[i].levels for i in place], dim=1)
        return kernels.pack_rows(levels.reshape(len(levels), -1).cpu().numpy(), scales, self._type)

    def _part(self, matrix: torch.Tensor, number: int) -> torch.Tensor:
        """The columns of a block, as a view."""
        return matrix[:, number * self._type.width : (number + 1) * self._type.width]

    def _candidates(self, units: torch.Tensor, scales: Sequence[float]) -> torch.Tensor:
        return to_units(units[:, None] * torch.tensor(scales, device=units.device), self._type)


def _codes(block: RoundedBlock) -> torch.Tensor:
    assert block.codes is not None
    return block.codes


def _rotated(rows: Floats, order: NDArray[np.intp], rotation: torch.Tensor) -> torch.Tensor:
    """Rows (k, n) rotated block by block, with the blocks in this order, on the rotation's device."""
    width = len(rotation)
    blocks = torch.from_numpy(rows).to(rotation.device).reshape(-1, width) @ rotation.T
    ordered = blocks.reshape(len(rows), -1, width)[:, torch.from_numpy(order).to(rotation.device)]
    return ordered.reshape(len(rows), -1)
