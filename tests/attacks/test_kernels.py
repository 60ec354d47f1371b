"""Rounding kernels given what is no number: nothing outside their tables is read, and codes stay codes."""

import numpy as np
import pytest
import torch

from converter.rounding.block_rounding import (
    BlockRounding,
    CpuBlockRounding,
    RoundedBlock,
    TorchBlockRounding,
    TrellisBlockRounding,
)
from converter.rounding.hessian import BlockFactors
from converter.rounding.trellis_kernels import EFFORTS
from eoq_formats.block_kernels import place_of
from eoq_formats.codebooks import codebook
from eoq_formats.types import WeightType, weight_type

ROWS = 5
NAN, INF = float("nan"), float("inf")
SCALAR, TRELLIS = weight_type("eoq4_64"), [weight_type(name) for name in ("eoq2t_64", "eoq3t_64", "eoq5t_64")]
ROUNDINGS: list[tuple[WeightType, BlockRounding]] = [
    (SCALAR, CpuBlockRounding(SCALAR)),
    (SCALAR, TorchBlockRounding(SCALAR, torch.device("cpu"))),
    *((t, TrellisBlockRounding(t, EFFORTS[effort])) for t in TRELLIS for effort in (1, 3)),
]


def levels_of(t: WeightType) -> set[int]:
    from eoq_formats.trellis import trellis_code

    table = trellis_code(t.bits).levels if t.is_trellis else codebook(t.bits).levels
    return {0, *np.unique(table).tolist()}


@pytest.mark.parametrize("value", [NAN, -NAN, INF, -INF, 3e38, -3e38])
def test_any_number_has_a_place_in_the_table(value: float) -> None:
    assert 0 <= place_of(np.float32(value)) < len(codebook(4).code_of_doubled)


@pytest.mark.parametrize(("t", "rounding"), ROUNDINGS, ids=lambda one: getattr(one, "name", type(one).__name__))
@pytest.mark.parametrize("bad", [NAN, -NAN, INF, -INF, 3e38])
@pytest.mark.parametrize("where", ["desired", "weights", "factor", "pivots", "all pivots", "candidates", "gradient"])
def test_blocks_with_what_is_no_number(t: WeightType, rounding: BlockRounding, bad: float, where: str) -> None:
    generator = torch.Generator().manual_seed(3)
    rows = {name: torch.randn((ROWS, t.width), generator=generator) for name in ("desired", "weights", "gradient")}
    factor, pivots = torch.eye(t.width), torch.ones(t.width)
    candidates = torch.full((ROWS, 2), 0.05)
    if where in rows:
        rows[where][1, 7] = bad
        rows[where][2] = bad
    elif where == "factor":
        factor[3, 9] = bad
    elif where == "candidates":
        candidates[1, 0] = candidates[2, :] = bad
    else:
        pivots[5 if where == "pivots" else slice(None)] = bad
    block = RoundedBlock.empty(ROWS, t, torch.device("cpu"))
    rounding.round(rows["desired"], rows["weights"], factor, pivots, candidates, block, None)
    factors = BlockFactors(torch.diag(pivots), factor, pivots, factor, pivots, torch.diag(1 / pivots))
    rounding.descend(rows["gradient"], factors, block)
    assert set(np.unique(block.levels.numpy()).tolist()) <= levels_of(t)
    if where in ("desired", "weights", "gradient"):  # rows have nothing to do with each other
        assert (block.units[[0, 3, 4]] > 0).all()
