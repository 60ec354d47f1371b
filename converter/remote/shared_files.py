"""Files that several machines read, and whether they all see the same."""

import socket
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from converter.errors import ClusterError

_HEAD = 1 << 20


@dataclass(frozen=True)
class SharedFile:
    """What tells a file from another, whichever machine looks at it: inodes and devices differ between them."""

    path: Path
    """Absolute."""
    size: int
    modified: int
    """Nanoseconds."""
    head: int
    """CRC-32 of the first MiB."""

    @classmethod
    def of(cls, path: Path) -> Self:
        """Raises OSError."""
        path = path.absolute()
        status = path.stat()
        with path.open("rb") as file:
            return cls(path, status.st_size, status.st_mtime_ns, zlib.crc32(file.read(_HEAD)))

    def check(self) -> None:
        """Raises ClusterError where this machine sees no such file, or another one."""
        node = socket.gethostname()
        try:
            found = SharedFile.of(self.path)
        except OSError as error:
            raise ClusterError(
                f"the node {node} cannot read {self.path} ({error.strerror}); all nodes must see the same files under "
                "the same names: put model, output and statistics into a folder that they share"
            ) from None
        if found != self:
            raise ClusterError(
                f"the node {node} sees another {self.path} than the machine that converts ({found.size} bytes, not "
                f"{self.size}, or of another time or content); all nodes must see the same files under the same names"
            )
