"""The cheapest path through a trellis, in plain NumPy: what numba and C compute too, to the last bit.

Source: A. J. Viterbi, "Error bounds for convolutional codes and an asymptotically optimum decoding algorithm" (1967).
All numbers are small integers, so that order and width of the arithmetic do not matter. (docs/format.md, section 5.6)
"""

import numpy as np
from numpy.typing import NDArray

from eoq_formats.trellis import Number, TrellisCode, trellis_windows

LARGEST_MISS = 127
"""Half levels: what is further from its target costs no more than this."""

LARGEST_COST = 16383
"""Of a path above the cheapest one; with a miss squared it fits int16."""


def cheapest_path(targets: NDArray[np.int32], code: TrellisCode) -> NDArray[np.uint8]:
    """Targets int32 (blocks, w) in half levels, in the order of the chain, to codes uint8 (blocks, w).

    A state is the last codes, the newest in the highest digit. Of paths that are equally cheap the one with the
    smallest oldest code is kept at each step, and the state with the smallest number at the end.
    """
    blocks, width = targets.shape
    radix = 1 << code.code_bits
    newer = code.states // radix  # states but for their oldest code
    doubled = 2 * levels_by_state(code.levels, code).astype(np.int32)
    cost = np.full((blocks, code.states), LARGEST_COST, dtype=np.int32)
    cost[:, 0] = 0
    came_from = np.empty((width, blocks, code.states), dtype=np.uint8)
    for step in range(width):
        miss = np.abs(targets[:, step, None, None, None, None] - doubled).min(axis=1).clip(max=LARGEST_MISS)
        # (blocks, oldest, newest, newer): the cost of coming to state (newest, newer) with this oldest code
        total = cost.reshape(blocks, newer, radix).swapaxes(1, 2)[:, :, None, :] + miss * miss
        came_from[step] = total.argmin(axis=1).reshape(blocks, -1)
        best = total.min(axis=1).reshape(blocks, -1)
        cost = np.minimum(best - best.min(axis=1, keepdims=True), LARGEST_COST)
    state = cost.argmin(axis=1)
    codes = np.empty((blocks, width), dtype=np.uint8)
    for step in range(width - 1, -1, -1):
        codes[:, step] = state // newer
        state = state % newer * radix + came_from[step, np.arange(blocks), state]
    if code.has_free_bit:
        codes |= _free_bits(targets, codes, code) << np.uint8(code.code_bits)
    return codes


def _free_bits(targets: NDArray[np.int32], codes: NDArray[np.uint8], code: TrellisCode) -> NDArray[np.uint8]:
    """uint8 (blocks, w), 0 or 1: the nearer of the two levels of each step; 0 where both are as near."""
    window = trellis_windows(codes, code)
    near, far = (np.abs(targets - 2 * levels[window].astype(np.int32)) for levels in code.levels)
    bits: NDArray[np.uint8] = (far < near).astype(np.uint8)
    return bits


def levels_by_state(levels: NDArray[Number], code: TrellisCode) -> NDArray[Number]:
    """Levels by window (1 or 2, windows) to (1 or 2, oldest code, newest code, states / radix), those of its steps."""
    # the window's digits from its highest are: oldest, …, second newest, newest; those between change their order
    radix = 1 << code.code_bits
    digits = levels.reshape(-1, *((radix,) * (code.memory + 1)))
    axes = (0, 1, code.memory + 1, *range(code.memory, 1, -1))
    return np.ascontiguousarray(digits.transpose(axes)).reshape(-1, radix, radix, code.states // radix)
