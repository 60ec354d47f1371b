"""The head of a GGUF file, everything before the tensor data: read, and written, byte for byte.

gguf-py's reader makes an array object of every token of the vocabulary (8 s and 490 MiB for the 152,000 of Qwen2.5) and
its writer encodes the metadata anew, losing empty arrays and the width of array elements. Here an entry stays the bytes
that it is, and nothing in a damaged file is trusted.
"""

import struct
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from gguf import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGUF_MAGIC,
    GGUF_VERSION,
    GGMLQuantizationType,
    GGUFValueType,
)

from gguf_files.errors import SourceError
from gguf_files.tensor_types import row_bytes

READABLE_VERSIONS = (2, 3)
MAX_DIMENSIONS = 4
MOST_HEAD_BYTES = 1 << 27
"""Bytes of a head; those of models have 2^25 at most, and sparse files can have any number."""
MOST_TENSORS = 1 << 16
"""And keys; a model of 2^12 experts in tensors of their own has fewer."""
MOST_ALIGNMENT = 1 << 20
"""Every tensor is padded with up to as much."""
MOST_NAME_BYTES = 63
"""ggml keeps a name with its NUL in 64."""
_LEAST_STEP = 1 << 16
"""Bytes that are read at a time; heads without a vocabulary have fewer."""
_LARGEST = 2**63 - 1
ALIGNMENT_KEY = "general.alignment"

_SCALARS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.INT8: "<b",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.INT16: "<h",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.INT64: "<q",
    GGUFValueType.FLOAT64: "<d",
    GGUFValueType.BOOL: "<?",
}
_TEXT_LENGTH = struct.Struct("<Q")
_ELEMENT_AND_COUNT = struct.Struct("<IQ")
_SHAPE_TYPE_OFFSET = tuple(struct.Struct(f"<{n}QIQ") for n in range(1, MAX_DIMENSIONS + 1))


def _damaged(what: str) -> SourceError:
    return SourceError(f"it is damaged: {what}; get the file again, or make it anew")


def _truncated(what: str) -> SourceError:
    return SourceError(f"it is truncated: {what}; get the file again")


@dataclass(frozen=True)
class MetadataEntry:
    """One key with its value."""

    key: str
    raw: bytes
    """The whole entry as in the file: key, type, value."""
    value: str | int | float | bool | None
    """The value; None for arrays."""

    @property
    def type(self) -> int:
        """Number of the value's type."""
        return int(struct.unpack_from("<I", self.raw, self._value_start - 4)[0])

    @property
    def array(self) -> tuple[int, int] | None:
        """Number of the elements' type, and how many there are, of an array; else None."""
        if self.type != GGUFValueType.ARRAY:
            return None
        element, count = _ELEMENT_AND_COUNT.unpack_from(self.raw, self._value_start)
        return int(element), int(count)

    @property
    def texts(self) -> tuple[str, ...]:
        """The elements of an array of texts; none of anything else."""
        if (array := self.array) is None or array[0] != GGUFValueType.STRING:
            return ()
        cursor = _Cursor(len(self.raw), lambda start, size: self.raw[start : start + size])
        cursor.skip(self._value_start + _ELEMENT_AND_COUNT.size)
        return tuple(cursor.text().decode(errors="replace") for _ in range(array[1]))

    @property
    def _value_start(self) -> int:
        return _TEXT_LENGTH.size + len(self.key.encode()) + 4


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the head of a file describes it."""

    name: str
    shape: tuple[int, ...]
    """ggml's order: the row length first."""
    type: GGMLQuantizationType
    offset: int
    """Bytes from the start of the tensor data."""

    @property
    def nbytes(self) -> int:
        return row_bytes(self.type, self.shape[0]) * prod(self.shape[1:])


@dataclass(frozen=True)
class GgufHeader:
    metadata: tuple[MetadataEntry, ...]
    tensors: tuple[TensorEntry, ...]
    alignment: int
    data_start: int
    """Bytes from the start of the file to the tensor data."""

    def get(self, key: str) -> str | int | float | bool | None:
        """The value of a key; None if there is no such key, or for an array."""
        return next((entry.value for entry in self.metadata if entry.key == key), None)


def align(size: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment


class _Cursor:
    """Reads forward through a file's bytes, never past their end, in steps as long as all before them."""

    def __init__(self, size: int, read: Callable[[int, int], bytes]) -> None:
        self.data = bytearray()
        self.position = 0
        self.end = min(size, MOST_HEAD_BYTES)
        self._size = size
        self._read = read

    def skip(self, size: int) -> int:
        """Move on; returns the position before."""
        start = self.position
        if size > self.end - start:
            raise self._too_long()
        self.position = start + size
        self._reach(self.position)
        return start

    def _reach(self, stop: int) -> None:
        """Have all bytes before `stop`, which is not behind the end."""
        known = len(self.data)
        if stop > known:
            self.data += self._read(known, min(max(stop - known, known, _LEAST_STEP), self.end - known))

    def _too_long(self) -> SourceError:
        if self.end == self._size:
            return _truncated("its header goes on past the end of the file")
        return _damaged(f"its header goes on past {MOST_HEAD_BYTES:,} bytes")

    def number(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack_from(form, self.data, self.skip(struct.calcsize(form)))[0]
        return value

    def integers(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack_from(self.data, self.skip(form.size))

    def integer(self, form: str) -> int:
        return int(self.number(form))

    def text(self) -> bytes:
        size = self.integer("<Q")
        start = self.skip(size)
        return bytes(self.data[start : start + size])

    def skip_texts(self, count: int) -> None:
        """Move over an array of texts; vocabularies have 10^5 of them, so no call for each."""
        position, last = self.position, self.end - _TEXT_LENGTH.size
        for _ in range(count):
            if position > last:
                raise self._too_long()
            self._reach(position + _TEXT_LENGTH.size)
            position += _TEXT_LENGTH.size + _TEXT_LENGTH.unpack_from(self.data, position)[0]
        self.skip(position - self.position)

    def name(self, what: str) -> str:
        try:
            return self.text().decode()
        except UnicodeDecodeError:
            raise _damaged(f"the name of a {what} is not UTF-8") from None

    def value_type(self) -> GGUFValueType:
        number = self.integer("<I")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise _damaged(f"metadata of unknown type {number}") from None


def parse_header(data: bytes) -> GgufHeader:
    """The head of a GGUF file that is in memory; see `read_header`."""
    return read_header(len(data), lambda start, size: data[start : start + size])


def read_header(size: int, read: Callable[[int, int], bytes]) -> GgufHeader:
    """Read the head of a GGUF file and check that llama.cpp loads such, and that its tensors lie within the file.

    `size` is the file's, and `read(start, count)` gives `count` bytes of it. Raises SourceError, whose message goes on
    after "FILE cannot be read as GGUF: ".
    """
    cursor = _Cursor(size, read)
    if size < 4 or cursor.integer("<I") != GGUF_MAGIC:
        raise SourceError("it does not begin with the bytes GGUF; give a GGUF file")
    version = cursor.integer("<I")
    if version not in READABLE_VERSIONS:
        if version and version & 0xFFFF == 0:
            raise SourceError("it is a big-endian GGUF; convert it with gguf-py's gguf-convert-endian first")
        raise SourceError(f"it has GGUF version {version}; versions 2 and 3 can be read")
    tensor_count, metadata_count = cursor.integer("<Q"), cursor.integer("<Q")
    if tensor_count > MOST_TENSORS or metadata_count > MOST_TENSORS:
        raise _damaged(
            f"it counts {tensor_count:,} tensors and {metadata_count:,} keys, and {MOST_TENSORS:,} of each can be read"
        )
    metadata = tuple(_metadata_entry(cursor) for _ in range(metadata_count))
    tensors = tuple(_tensor_entry(cursor) for _ in range(tensor_count))
    alignment = check_loadable(metadata, tensors)
    header = GgufHeader(metadata, tensors, alignment, align(cursor.position, alignment))
    for tensor in tensors:
        _check_extent(tensor, header, size)
    return header


def check_loadable(metadata: Sequence[MetadataEntry], tensors: Sequence[TensorEntry]) -> int:
    """The alignment of a file with such a head. Raises SourceError for what llama.cpp refuses (ggml/src/gguf.cpp)."""
    _check_unique("metadata key", [entry.key for entry in metadata])
    _check_unique("tensor", [tensor.name for tensor in tensors])
    for entry in metadata:
        if not entry.key or "\0" in entry.key:
            raise _damaged(f"a metadata key is {entry.key!r}")
    alignment = _alignment(metadata)
    expected = 0
    for tensor in tensors:
        _check_tensor(tensor)
        if tensor.offset != expected:
            raise _damaged(
                f"the data of tensor {tensor.name} begins at byte {tensor.offset} and not at {expected}, "
                "where that of the tensors before it ends"
            )
        expected = align(tensor.offset + tensor.nbytes, alignment)
    return alignment


def _alignment(metadata: Sequence[MetadataEntry]) -> int:
    entry = next((e for e in metadata if e.key == ALIGNMENT_KEY), None)
    if entry is None:
        return int(GGUF_DEFAULT_ALIGNMENT)
    if entry.type != GGUFValueType.UINT32 or not isinstance(alignment := entry.value, int):
        raise _damaged(f"its {ALIGNMENT_KEY} is not of type uint32")
    if not 1 <= alignment <= MOST_ALIGNMENT or alignment & (alignment - 1):
        raise _damaged(f"its alignment is {alignment}, not a power of two up to {MOST_ALIGNMENT}")
    return alignment


def _check_tensor(tensor: TensorEntry) -> None:
    size = len(tensor.name.encode())
    if not 1 <= size <= MOST_NAME_BYTES or "\0" in tensor.name:
        raise _damaged(
            f"the name of a tensor is {tensor.name!r}, and names have 1 to {MOST_NAME_BYTES} bytes, none of them zero"
        )
    elements = 1
    for length in tensor.shape:
        # as gguf.cpp counts: a zero before a length that is too large is no excuse, one after it neither
        if length > _LARGEST or (length > 1 and elements > _LARGEST // length):
            raise _damaged(f"tensor {tensor.name} of shape {tensor.shape} has more weights than can be counted")
        elements *= length


def _metadata_entry(cursor: _Cursor) -> MetadataEntry:
    start = cursor.position
    key = cursor.name("metadata key")
    value = _value(cursor, cursor.value_type())
    return MetadataEntry(key, bytes(cursor.data[start : cursor.position]), value)


def _value(cursor: _Cursor, kind: GGUFValueType) -> str | int | float | bool | None:
    if kind in _SCALARS:
        return cursor.number(_SCALARS[kind])
    if kind == GGUFValueType.STRING:
        return cursor.text().decode(errors="replace")
    element, count = cursor.value_type(), cursor.integer("<Q")
    if element in _SCALARS:
        cursor.skip(count * struct.calcsize(_SCALARS[element]))
    elif element == GGUFValueType.STRING:
        cursor.skip_texts(count)
    else:
        raise _damaged("its metadata has arrays within arrays")
    return None


def _tensor_entry(cursor: _Cursor) -> TensorEntry:
    name = cursor.name("tensor")
    dimensions = cursor.integer("<I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise _damaged(f"tensor {name} has {dimensions} dimensions")
    *shape, number, offset = cursor.integers(_SHAPE_TYPE_OFFSET[dimensions - 1])
    try:
        kind = GGMLQuantizationType(number)
        length, _ = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise SourceError(
            f"tensor {name} has type {number}, which this program does not know; make the file with another type"
        ) from None
    if shape[0] % length:
        raise _damaged(f"tensor {name} has rows of {shape[0]}, not whole blocks of {kind.name}")
    return TensorEntry(name, tuple(shape), kind, offset)


def _check_unique(what: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise _damaged(f"{what} {twice} stands in it twice")


def _check_extent(tensor: TensorEntry, header: GgufHeader, size: int) -> None:
    missing = header.data_start + tensor.offset + tensor.nbytes - size
    if missing > 0:
        raise _truncated(f"{missing} bytes of tensor {tensor.name} are missing")


def pack_text(text: str) -> bytes:
    # names of files, in another encoding, are parts of descriptions
    data = text.encode(errors="replace")
    return struct.pack("<Q", len(data)) + data


def pack_entry(key: str, kind: GGUFValueType, value: str | int) -> MetadataEntry:
    """A text or number under a key."""
    packed = pack_text(value) if isinstance(value, str) else struct.pack(_SCALARS[kind], value)
    return MetadataEntry(key, pack_text(key) + struct.pack("<I", kind) + packed, value)


def pack_array(key: str, kind: GGUFValueType, values: Sequence[str] | Sequence[int]) -> MetadataEntry:
    """An array of texts or numbers under a key."""
    head = struct.pack("<IIQ", GGUFValueType.ARRAY, kind, len(values))
    items = (pack_text(v) if isinstance(v, str) else struct.pack(_SCALARS[kind], v) for v in values)
    return MetadataEntry(key, pack_text(key) + head + b"".join(items), None)


def pack_header(metadata: Sequence[MetadataEntry], tensors: Sequence[TensorEntry], alignment: int) -> bytes:
    """The head of a file, padded up to where the tensor data starts."""
    parts = [struct.pack("<IIQQ", GGUF_MAGIC, GGUF_VERSION, len(tensors), len(metadata))]
    parts += [entry.raw for entry in metadata]
    for t in tensors:
        shape = struct.pack(f"<I{len(t.shape)}Q", len(t.shape), *t.shape)
        parts.append(pack_text(t.name) + shape + struct.pack("<IQ", t.type, t.offset))
    head = b"".join(parts)
    return head.ljust(align(len(head), alignment), b"\0")
