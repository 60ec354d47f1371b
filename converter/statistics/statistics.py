"""What any source of statistics tells, whatever its file format."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

LEAST_TOKENS_PER_CHANNEL = 1 / 2
"""Tokens that an expert should have seen for each of its n input channels, or else the moments over all experts serve
it better. With EOQ4 on 256 rows of blk.4 of the 0.5B yardstick, the output error on other text relative to rounding to
nearest (attn_q, ffn_gate) is 0.90 and 0.95 with n/2 tokens, 0.72 and 0.77 with n, 0.44 and 0.48 with 7 n."""
LEAST_TOKENS_PER_OWN_CHANNEL = 1 / 64
"""Least tokens a channel for what only the expert itself can tell: inputs of ffn_down, whose channels are its own,
and diagonals, which need few tokens. In the measurement above, ffn_down has an error of 0.90 with n/64 tokens and
0.76 with n/8."""


@dataclass(frozen=True)
class InputMoments:
    """What one matrix of a tensor is rounded by."""

    values: NDArray[np.float32]
    """float32 (n, n), the mean of x xᵀ, or (n,) where only its diagonal is known."""
    is_pooled: bool
    """Whether they are over the tokens of all experts, as this one saw too few."""


class Statistics(ABC):
    """Second moments of the inputs of tensors, by GGUF tensor name.

    All of a model's experts are one tensor in a GGUF, so each of its statistics comes once for each expert; `experts`
    is 1 for an ordinary tensor. Methods raise KeyError for a tensor without statistics: ask with `in` first.
    """

    path: Path
    fingerprint: str | None
    """`fingerprint(source)` of the model that they were taken from; None where the file does not tell."""
    tokens: int
    """Tokens of the calibration text that were run."""
    description: str
    """Text, length of sequences and the like, in one line."""
    notes: tuple[str, ...] = ()
    """Sentences on what could not be had, such as tensors without statistics."""
    imatrix: Mapping[str, str | int] = MappingProxyType({})
    """Of an importance matrix, what llama-quantize says of it in the metadata of its output, by key."""
    _last_pooled: tuple[str, NDArray[np.float32]] | None = None
    has_moments: bool = True
    """Whether `moments` gives matrices; if not, only diagonals are known."""

    @property
    @abstractmethod
    def tensor_names(self) -> Sequence[str]:
        """All tensors with statistics."""

    @abstractmethod
    def input_key(self, tensor_name: str) -> str:
        """A name for the tensor's input: tensors fed by the same input, such as attn_q, attn_k and attn_v, share it."""

    @abstractmethod
    def row_length(self, tensor_name: str) -> int:
        """Channels of the input, n."""

    @abstractmethod
    def counts(self, tensor_name: str) -> NDArray[np.float64]:
        """Tokens seen, (experts,)."""

    @abstractmethod
    def diagonal(self, tensor_name: str) -> NDArray[np.float64]:
        """Mean square of each input channel, (experts, n); zeros for an expert that saw no token."""

    @abstractmethod
    def moments(self, tensor_name: str, expert: int = 0) -> NDArray[np.float32] | None:
        """The mean of x xᵀ over the inputs x, (n, n), symmetric, a new array. None if only its diagonal is known.

        Zeros for an expert that saw no token.
        """

    def for_rounding(self, tensor_name: str, expert: int = 0) -> InputMoments:
        """The moments that a matrix is rounded, scaled and planned by: full where they are known, and pooled over all
        experts for one that saw too few tokens. A new array."""
        if expert in self.pooled_experts(tensor_name):
            return InputMoments(self.pooled_moments(tensor_name, expert), is_pooled=True)
        moments = self.moments(tensor_name, expert)
        if moments is None:
            moments = self.diagonal(tensor_name)[expert].astype(np.float32)
        return InputMoments(moments, is_pooled=False)

    def pooled_moments(self, tensor_name: str, expert: int) -> NDArray[np.float32]:
        """Moments over the tokens of all experts, in the place of those of an expert that saw too few.

        (n, n), or the diagonal (n,) where only that is known.
        """
        if self._last_pooled is None or self._last_pooled[0] != tensor_name:
            self._last_pooled = tensor_name, self._pool(tensor_name)
        return self._last_pooled[1].copy()

    def _pool(self, tensor_name: str) -> NDArray[np.float32]:
        counts, diagonal = self.counts(tensor_name), self.diagonal(tensor_name)
        shares = (counts / max(1.0, counts.sum())).astype(np.float32)
        pooled: NDArray[np.float32] = shares @ diagonal.astype(np.float32)
        if self.moments(tensor_name) is None:
            return pooled
        pooled = np.zeros((diagonal.shape[1],) * 2, dtype=np.float32)
        for i in np.flatnonzero(counts):
            moments = self.moments(tensor_name, int(i))
            assert moments is not None
            pooled += shares[i] * moments
        return pooled

    def __contains__(self, tensor_name: object) -> bool:
        return tensor_name in self.tensor_names

    def warnings(self) -> Iterator[str]:
        """Sentences on what to mind: the notes, and one each on ordinary tensors and on mixtures of experts whose
        inputs were too few."""
        yield from self.notes
        ordinary = [name for name in self._short_of_tokens if len(self.counts(name)) == 1]
        mixtures = [name for name in self._short_of_tokens if len(self.counts(name)) > 1]
        if ordinary:
            name = min(ordinary, key=lambda name: self.counts(name)[0] / self.least_tokens(name))
            yield (
                f"{_first_of(name, ordinary)} saw {self.counts(name)[0]:.0f} tokens of calibration, and needs "
                f"{self.least_tokens(name)} for statistics to rely on; give more text"
            )
        if mixtures:
            name = max(mixtures, key=lambda name: len(self.experts_short_of_tokens(name)) / len(self.counts(name)))
            yield (
                f"{len(self.experts_short_of_tokens(name))} of {len(self.counts(name))} experts of "
                f"{_first_of(name, mixtures)} saw fewer than {self.least_tokens(name)} tokens of calibration, and are "
                "rounded by the moments of all; give more text, or calibrate with --all-experts"
            )

    @property
    def _short_of_tokens(self) -> list[str]:
        return [name for name in self.tensor_names if self.experts_short_of_tokens(name)]

    def pooled_experts(self, tensor_name: str) -> list[int]:
        """The experts of a mixture whose moments are those over all experts, as they saw too few tokens."""
        return self.experts_short_of_tokens(tensor_name) if len(self.counts(tensor_name)) > 1 else []

    def experts_short_of_tokens(self, tensor_name: str) -> list[int]:
        """Experts that saw so few tokens that the moments over all experts serve them better."""
        return [int(i) for i in np.flatnonzero(self.counts(tensor_name) < self.least_tokens(tensor_name))]

    def least_tokens(self, tensor_name: str) -> int:
        """Tokens that an expert must have seen for its statistics to be taken."""
        own = "ffn_down" in tensor_name or not self.has_moments
        share = LEAST_TOKENS_PER_OWN_CHANNEL if own else LEAST_TOKENS_PER_CHANNEL
        return math.ceil(share * self.row_length(tensor_name))


def _first_of(name: str, names: Sequence[str]) -> str:
    """The worst of the tensors, and how many there are."""
    return name if len(names) == 1 else f"{name}, the worst of {len(names)} tensors,"
