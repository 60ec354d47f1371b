"""An open GGUF file: its head, and its data by and by."""

import mmap
import os
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gguf_files.errors import SourceError
from gguf_files.header import GgufHeader, parse_header
from gguf_files.unchanged import FileState, changed
from input_files.ordinary import check_ordinary


class MappedGguf:
    """One GGUF file. Its head is read from a mapping; its data is not, as whoever looks at a mapping of a file that is
    cut short, or on a disk that fails, is killed by a signal. Raises SourceError where it is none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if check_ordinary(path, SourceError) == 0:
            raise SourceError(f"{path} cannot be read as GGUF: it is empty; get the file again")
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO would wait for a writer
            weakref.finalize(self, os.close, self._descriptor)
            self.state = FileState.of(self._descriptor)
            if self.state.size == 0:
                raise SourceError(f"{path} cannot be read as GGUF: it is empty")
            head = mmap.mmap(self._descriptor, self.state.size, access=mmap.ACCESS_READ)
        except ValueError:  # there is less of it by now
            raise changed(path) from None
        except OSError as e:
            raise SourceError(f"{path} cannot be read: {e.strerror}") from None
        try:
            self.header: GgufHeader = parse_header(head)
        except SourceError as e:
            raise SourceError(f"{path} cannot be read as GGUF: {e}") from None
        finally:
            head.close()

    def read(self, start: int, size: int) -> NDArray[np.uint8]:
        """`size` bytes from `start` on, in memory of their own.

        Raises SourceError where they cannot be read, or the file is not what it was when it was opened.
        """
        data = np.empty(size, dtype=np.uint8)
        left = data.data
        try:
            while left and (count := os.preadv(self._descriptor, [left], start)):
                left, start = left[count:], start + count
        except OSError as e:
            raise SourceError(f"{self.path} cannot be read: {e.strerror}") from None
        if left:
            raise changed(self.path)
        self.check_unchanged()
        return data

    def check_unchanged(self) -> None:
        """Raises SourceError where somebody has written to the file. Another file under its name does no harm."""
        if FileState.of(self._descriptor) != self.state:
            raise changed(self.path)
