"""Blocks of models with EWQ's decisions: what FastEWQ learns from.

`blocks.csv` has what the paper prints of its 700 rows: the 17 of its table 2, and every block of the four models whose
decisions are in table 8. Parameters of the latter follow from table 9 (bytes of a block in 16 bits), and agree with
their configurations to the parameter; for Phi-3.5 table 2 has another number, which is kept in its own row.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from converter.errors import OptionError
from converter.plan.precision_levels import LEVELS, RAW
from input_files.ordinary import read_text

DATASET = Path(__file__).parent / "blocks.csv"
COLUMNS = ("model_name", "num_blocks", "exec_index", "num_parameters", "quantization_type", "quantized", "source")
FEATURES = ("num_parameters", "exec_index", "num_blocks")
"""In this order."""
_LARGEST = 2**53
"""Up to it float64 has every whole number."""
_MOST_BYTES = 1 << 24


@dataclass(frozen=True)
class BlockRow:
    """One block. The first of a model has exec_index 2: the embeddings are 1."""

    model_name: str
    num_blocks: int
    exec_index: int
    num_parameters: int
    quantization_type: str
    """`raw`, `8bit` or `4bit`."""
    source: str

    @property
    def quantized(self) -> bool:
        return self.quantization_type != RAW


@dataclass(frozen=True)
class Dataset:
    rows: tuple[BlockRow, ...]

    @property
    def features(self) -> NDArray[np.float64]:
        """(rows, 3), columns as in FEATURES."""
        return np.array([[getattr(row, name) for name in FEATURES] for row in self.rows], dtype=np.float64)

    @property
    def labels(self) -> NDArray[np.int64]:
        """(rows,), 1 for quantised."""
        return np.array([row.quantized for row in self.rows], dtype=np.int64)

    @property
    def models(self) -> list[str]:
        return [row.model_name for row in self.rows]

    def only(self, source: str) -> "Dataset":
        return Dataset(tuple(row for row in self.rows if row.source == source))

    def with_model(self, rows: Sequence[BlockRow]) -> "Dataset":
        """These rows in place of those with the same names of models."""
        names = {row.model_name for row in rows}
        return Dataset((*(row for row in self.rows if row.model_name not in names), *rows))


def read_dataset(path: Path = DATASET) -> Dataset:
    """Raises OptionError that names the line."""
    rows = []
    text = read_text(path, OptionError, "the data set", most=_MOST_BYTES)
    try:
        for number, entry in enumerate(csv.DictReader(io.StringIO(text, newline="")), 2):
            try:
                level = entry["quantization_type"]
                if level not in LEVELS or bool(int(entry["quantized"])) != (level != RAW):
                    raise ValueError
                blocks, place, size = (int(entry[n]) for n in ("num_blocks", "exec_index", "num_parameters"))
                if max(blocks, place, size) > _LARGEST or min(blocks, place, size) < 0:
                    raise ValueError
                rows.append(BlockRow(entry["model_name"], blocks, place, size, level, entry["source"]))
            except (KeyError, TypeError, ValueError):
                raise OptionError(
                    f"line {number} of the data set {path} is not {','.join(COLUMNS)} with a known level"
                ) from None
    except csv.Error as e:
        raise OptionError(f"the data set {path} is not CSV: {e}; mend it") from None
    if len({row.quantized for row in rows}) < 2:
        raise OptionError(f"the data set {path} needs blocks of both kinds, quantised and not")
    return Dataset(tuple(rows))


def write_dataset(dataset: Dataset, path: Path) -> None:
    """Raises OSError."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in dataset.rows:
            counts = (row.num_blocks, row.exec_index, row.num_parameters)
            writer.writerow([row.model_name, *counts, row.quantization_type, int(row.quantized), row.source])
