"""An open GGUF file: its head, and its data by and by."""

from pathlib import Path

from gguf_files.errors import SourceError, UnreadableError
from gguf_files.header import GgufHeader, read_header
from gguf_files.unchanged import OpenFile


class GgufFile(OpenFile):
    """One GGUF file. Raises SourceError where it is none."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        if self.state.size == 0:
            raise SourceError(f"{path} cannot be read as GGUF: it is empty; get the file again")
        try:
            self.header: GgufHeader = read_header(self.state.size, lambda start, size: self.read(start, size).tobytes())
        except UnreadableError:
            raise
        except SourceError as e:
            raise SourceError(f"{path} cannot be read as GGUF: {e}") from None
