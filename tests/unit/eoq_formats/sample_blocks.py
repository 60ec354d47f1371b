"""Blocks of weights that exercise the formats: ordinary, degenerate and hostile."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eoq_formats.rotation import signs, walsh_hadamard

FLOAT32_MAX = float(np.finfo(np.float32).max)


def gaussian(rng: np.random.Generator, count: int, width: int) -> NDArray[np.float32]:
    return rng.standard_normal((count, width)).astype(np.float32)


def families(rng: np.random.Generator, count: int, width: int) -> dict[str, NDArray[np.float32]]:
    """Named arrays (count, width) of finite float32 values."""
    shape = (count, width)
    one_hot = np.zeros(shape)
    one_hot[np.arange(count), rng.integers(0, width, count)] = rng.standard_normal(count)
    base = {
        "gaussian": rng.standard_normal(shape),
        "heavy tails": rng.standard_t(1.5, shape),
        "outliers": rng.standard_normal(shape) * np.exp(3 * rng.standard_normal(shape)),
        "sparse": (rng.random(shape) < 0.05) * rng.standard_normal(shape),
        "one value": one_hot,
        "two values": rng.choice([-1.0, 1.0], shape),
        "nearly constant": 1 + 1e-3 * rng.standard_normal(shape),
        "constant": np.repeat(rng.standard_normal((count, 1)), width, axis=1),
        "zero": np.zeros(shape),
    }
    # the same families after the rotation, where outliers hurt most
    rotated = {f"rotated {name}": signs(width) * walsh_hadamard(x) for name, x in base.items()}
    plain = base | rotated
    scaled = {
        f"{name} at {scale:g}": x * scale
        for name, x in plain.items()
        for scale in (1e-44, 1e-38, 1e-10, 1e-8, 1e-6, 0.02, 1e4, 1e36)
    }
    limit = FLOAT32_MAX
    return {name: np.clip(x, -limit, limit).astype(np.float32) for name, x in (plain | scaled).items()}


@dataclass(frozen=True)
class Samples:
    """All families in one array x float32 (families * count, width), with the family of each row."""

    x: NDArray[np.float32]
    names: list[str]

    @classmethod
    def draw(cls, rng: np.random.Generator, count: int, width: int) -> "Samples":
        drawn = families(rng, count, width)
        return cls(np.concatenate(list(drawn.values())), [name for name in drawn for _ in range(count)])

    def families_where(self, wrong: NDArray[np.bool_]) -> list[str]:
        """Names of the families with a row in which anything is wrong; empty if all is well."""
        return sorted({self.names[row] for row in np.flatnonzero(wrong.reshape(len(self.names), -1).any(axis=1))})
