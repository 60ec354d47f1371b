"""Tensors read once, each by itself: checksums, valid blocks, finite numbers."""

import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from gguf.quants import dequantize
from numpy.typing import NDArray

from converter.rounding.rounded_rows import row_chunks
from eoq_formats.types import SCALE_BYTES, WeightType
from gguf_files.finite import finite_values
from gguf_files.source import Source
from gguf_files.tensor_types import INTEGER_TYPES, can_dequantize, eoq_type
from gguf_files.tensors import TensorInfo
from gguf_files.weights import Bytes
from inspection.faults import Fault
from terminal.progress import Progress

_INFINITE = np.uint16(0x7C00)
_SIGN = np.uint16(0x8000)


@dataclass
class _Places:
    """Blocks, or rows, with the same thing wrong: the first, and how many."""

    what: str
    first: str = ""
    count: int = 0

    def add(self, first: str, count: int) -> None:
        self.first = self.first or first
        self.count += count

    def __str__(self) -> str:
        others = f" (so {self.count:,} in all)" if self.count > 1 else ""
        return f"{self.first} {self.what}{others}"


def check_tensors(
    source: Source, checksums: Sequence[int] | None, threads: int, progress: Progress
) -> Iterator[list[Fault]]:
    """The faults of each tensor, in order. Several are read at a time, each in pieces."""
    pool = ThreadPoolExecutor(threads)
    expected = [None] * len(source.tensors) if checksums is None else checksums
    try:
        for tensor, faults in zip(
            source.tensors,
            pool.map(lambda t, checksum: _check(source, t, checksum), source.tensors, expected),
            strict=True,
        ):
            progress.advance(tensor.nbytes)
            yield faults
    finally:
        pool.shutdown(cancel_futures=True)


def _check(source: Source, tensor: TensorInfo, expected: int | None) -> list[Fault]:
    eoq = eoq_type(tensor.type)
    found = _BlockFaults() if eoq is not None else _RowFaults()
    checksum = 0
    for start, stop in row_chunks(tensor):
        stored = source.rows(tensor, start, stop)
        if expected is not None:
            checksum = zlib.crc32(stored.data, checksum)
        if isinstance(found, _BlockFaults):
            assert eoq is not None
            found.look_at(stored, eoq, start)
        else:
            found.look_at(stored, tensor, start)
    faults = found.texts
    if expected is not None and checksum != expected:
        faults = [f"its bytes are not those that were written: CRC-32 {checksum:08x}, not {expected:08x}", *faults]
    return [Fault(tensor.name, text) for text in faults]


class _BlockFaults:
    """What docs/format.md, section 2, forbids in EOQ blocks. All codes are valid."""

    def __init__(self) -> None:
        self._infinite = _Places("has a scale that is infinite or NaN")
        self._negative = _Places("has a negative scale")
        self._codes = _Places("has codes under a scale of zero")

    def look_at(self, stored: Bytes, t: WeightType, start: int) -> None:
        """Rows uint8 (rows, row bytes) from number `start` on."""
        blocks = stored.reshape(len(stored), -1, t.block_bytes)
        scales = np.ascontiguousarray(blocks[..., :SCALE_BYTES]).view("<u2")[..., 0]
        infinite = (scales & _INFINITE) == _INFINITE
        self._add(self._infinite, infinite, start)
        self._add(self._negative, (scales & _SIGN != 0) & ~infinite, start)
        rows, columns = np.nonzero(scales & ~_SIGN == 0)
        with_codes = np.zeros(scales.shape, dtype=np.bool_)
        with_codes[rows, columns] = blocks[rows, columns, SCALE_BYTES:].any(axis=1)
        self._add(self._codes, with_codes, start)

    def _add(self, places: _Places, which: NDArray[np.bool_], start: int) -> None:
        count = int(np.count_nonzero(which))
        if count:
            row, block = np.unravel_index(int(which.argmax()), which.shape)
            places.add(f"block {block} of row {start + row}", count)

    @property
    def texts(self) -> list[str]:
        return [str(places) for places in (self._infinite, self._negative, self._codes) if places.count]


class _RowFaults:
    """Numbers in tensors of other types that are none."""

    def __init__(self) -> None:
        self._places = _Places("has a NaN or an infinity")

    def look_at(self, stored: Bytes, tensor: TensorInfo, start: int) -> None:
        """Rows uint8 (rows, row bytes) from number `start` on."""
        if tensor.type in INTEGER_TYPES:
            return
        finite = finite_values(stored, tensor.type)
        if finite is None:
            if not can_dequantize(tensor.type):
                return
            with np.errstate(all="ignore"):
                finite = np.isfinite(dequantize(stored, tensor.type))
        bad = np.flatnonzero(~finite.all(axis=1))
        if bad.size:
            self._places.add(f"row {start + int(bad[0])}", bad.size)

    @property
    def texts(self) -> list[str]:
        return [str(self._places)] if self._places.count else []
