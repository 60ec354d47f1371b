"""Statistics of several texts made into one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import StatisticsError
from converter.statistics.moments_file import InputLayout, MomentsFile, StatisticsWriter
from converter.statistics.open import open_statistics
from converter.statistics.sound import MOST_TOKENS, check_means
from converter.statistics.triangle import Floats, packed_length
from output_files.claim import claimed
from output_files.target import resolve_target

_PIECE = 1 << 20


def merge_statistics(paths: Sequence[Path], target: Path) -> MomentsFile:
    """Write the means over all tokens of several statistics files of one model to `target`, and open it.

    A token counts the same whichever file it comes from. Raises StatisticsError or TargetError.
    """
    return _combined([_open(path) for path in paths], target, None)


def mix_statistics(weights: Mapping[Path, float], target: Path) -> MomentsFile:
    """Write a mean of statistics files of one model to `target`, and open it: each file counts by its weight.

    So kinds of text can be weighed against each other, however many tokens of each were run. Raises StatisticsError or
    TargetError.
    """
    for path, weight in weights.items():
        if not (weight > 0 and math.isfinite(weight)):
            raise StatisticsError(f"the weight of {path} must be above 0, not {weight:g}")
    return _combined([_open(path) for path in weights], target, list(weights.values()))


def _combined(files: Sequence[MomentsFile], target: Path, weights: Sequence[float] | None) -> MomentsFile:
    """By the weights of the files, or by tokens where there are none."""
    if not files:
        raise StatisticsError("nothing to merge: give the statistics files")
    target = resolve_target(target)
    first = files[0]
    for file in files[1:]:
        _check_same(first, file)
    parts = [file.description for file in files]
    if weights is not None:
        parts = [f"{weight:g} x ({part})" for weight, part in zip(weights, parts, strict=True)]
    head = replace(
        first.head,
        tokens=sum(file.tokens for file in files),
        description=" + ".join(parts),
        notes=tuple(dict.fromkeys(note for file in files for note in file.notes)),
    )
    if head.tokens > MOST_TOKENS:
        raise StatisticsError(f"{head.tokens:,} tokens are more than can be counted; leave one of the files out")
    with claimed([target], [file.path for file in files]), StatisticsWriter(target, head) as writer:
        for layout in head.inputs:
            counts = np.stack([file.stored_counts(layout) for file in files])
            # an expert that a file has not seen has no part of it, and one that no file has seen keeps its zeros
            heard = counts if weights is None else np.where(counts > 0, np.array(weights)[:, None], 0)
            shares = heard / np.maximum(heard.sum(0), np.finfo(np.float64).tiny)
            diagonals = np.stack([file.diagonal(layout.tensors[0])[: layout.sets] for file in files])
            diagonal = np.einsum("fs,fsn->sn", shares, diagonals)
            check_means(target, layout.key, counts.sum(0), diagonal)
            writer.write(_merged(files, layout, shares), diagonal, counts.sum(0))
        writer.commit()
    return _open(target)


def _open(path: Path) -> MomentsFile:
    statistics = open_statistics(path)
    if not isinstance(statistics, MomentsFile):
        raise StatisticsError(f"{path} is an importance matrix of llama.cpp; merge such files with llama-imatrix")
    return statistics


def _check_same(first: MomentsFile, other: MomentsFile) -> None:
    if other.fingerprint != first.fingerprint:
        raise StatisticsError(f"{other.path} and {first.path} are of different models, so they cannot be merged")
    if other.head.inputs != first.head.inputs:
        differing = set(first.head.inputs) ^ set(other.head.inputs)
        names = sorted({name for i in differing for name in i.tensors})
        raise StatisticsError(
            f"{other.path} and {first.path} do not have the same tensors, experts or order, so they cannot be merged; "
            f"they differ at {names[0] if names else first.head.inputs[0].key}"
        )


def _merged(files: Sequence[MomentsFile], layout: InputLayout, shares: NDArray[np.float64]) -> Iterator[Floats]:
    """The weighted packed moments, set after set, in pieces. `shares`: (files, sets)."""
    length = packed_length(layout.row_length)
    for number in range(layout.sets):
        for start in range(0, length, _PIECE):
            total = np.zeros(min(_PIECE, length - start))
            for share, file in zip(shares[:, number], files, strict=True):
                total += share * file.stored_moments(layout, number, start, start + _PIECE)
            if not np.isfinite(total).all():
                paths = " and ".join(str(file.path) for file in files)
                raise StatisticsError(
                    f"the moments of {layout.key} in {paths} have a NaN or an infinity; collect them again"
                )
            yield total.astype(np.float32)
