"""Checksums of tensors in a file's metadata: CRC-32, so that later damage is found and named."""

from collections.abc import Sequence

import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray

from gguf_files.header import MetadataEntry, pack_array

CHECKSUMS = "eoq.checksums"
"""Key of an array of uint32: the CRC-32 (zlib's) of each tensor's bytes without padding, in the order of the tensors.

Of a model in splits the first has those of all tensors, as it has all metadata.
"""


def checksums_entry(checksums: Sequence[int]) -> MetadataEntry:
    """The entry for tensors with these CRC-32."""
    return pack_array(CHECKSUMS, GGUFValueType.UINT32, checksums)


def read_checksums(metadata: Sequence[MetadataEntry]) -> NDArray[np.uint32] | None:
    """uint32 (tensors,); None where there are none. Raises ValueError where the key holds something else."""
    entry = next((e for e in metadata if e.key == CHECKSUMS), None)
    if entry is None:
        return None
    if entry.array is None or entry.array[0] != GGUFValueType.UINT32:
        raise ValueError(f"{CHECKSUMS} is not an array of uint32")
    return np.frombuffer(entry.raw, dtype="<u4", offset=len(checksums_entry(()).raw))
