"""A GGUF file mapped into memory, its header read."""

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gguf_files.errors import SourceError
from gguf_files.header import GgufHeader, parse_header


class MappedGguf:
    """One GGUF file, mapped read-only. Raises SourceError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                if file.seek(0, 2) == 0:
                    raise SourceError(f"{path} cannot be read as GGUF: it is empty")
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}") from None
        try:
            self.header: GgufHeader = parse_header(self.map)
        except SourceError as e:
            raise SourceError(f"{path} cannot be read as GGUF: {e}") from None
        self.bytes: NDArray[np.uint8] = np.frombuffer(self.map, dtype=np.uint8)

    def drop_pages(self, start: int, size: int) -> None:
        """Let go of what was read, so that memory in use does not grow to the size of the file."""
        if hasattr(mmap, "MADV_DONTNEED"):
            first = start // mmap.PAGESIZE * mmap.PAGESIZE
            self.map.madvise(mmap.MADV_DONTNEED, first, start + size - first)
