"""GGUF files put together byte by byte, right or wrong: gguf-py's writer makes only what is right."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from gguf import GGUFValueType

F32, F64 = 0, 28
_FORMS = {
    GGUFValueType.UINT8: "<B",
    GGUFValueType.UINT16: "<H",
    GGUFValueType.UINT32: "<I",
    GGUFValueType.INT32: "<i",
    GGUFValueType.UINT64: "<Q",
    GGUFValueType.FLOAT32: "<f",
    GGUFValueType.BOOL: "<?",
}
TEXT, U32, U64 = GGUFValueType.STRING, GGUFValueType.UINT32, GGUFValueType.UINT64

Value = str | bytes | int | float


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def _packed(kind: GGUFValueType, value: Value) -> bytes:
    return text(value) if isinstance(value, str | bytes) else struct.pack(_FORMS[kind], value)


def entry(key: str | bytes, kind: GGUFValueType, value: Value) -> bytes:
    """A key with a value."""
    return text(key) + struct.pack("<I", kind) + _packed(kind, value)


def array(key: str, kind: GGUFValueType, values: Sequence[Value]) -> bytes:
    """A key with an array."""
    head = struct.pack("<IIQ", GGUFValueType.ARRAY, kind, len(values))
    return text(key) + head + b"".join(_packed(kind, value) for value in values)


@dataclass(frozen=True)
class Tensor:
    """A tensor of any name, shape and bytes, at any place."""

    name: str | bytes
    shape: tuple[int, ...]
    data: bytes | None = None
    """Ones as float32, where nothing is given."""
    type: int = F32
    offset: int | None = None
    """Where the one before ends, if nothing else is said."""

    @property
    def bytes(self) -> bytes:
        if self.data is not None:
            return self.data
        count = 1
        for length in self.shape:
            count *= length
        return struct.pack("<f", 1.0) * count


def gguf(entries: Sequence[bytes], tensors: Sequence[Tensor], align: int = 32, count: int | None = None) -> bytes:
    """A file; `count` tensors are promised where that is not how many there are."""
    infos, data = [], b""
    for t in tensors:
        offset = len(data) if t.offset is None else t.offset
        shape = struct.pack(f"<I{len(t.shape)}Q", len(t.shape), *t.shape)
        infos.append(text(t.name) + shape + struct.pack("<IQ", t.type, offset))
        data += t.bytes + bytes(-len(t.bytes) % align)
    counts = struct.pack("<IQQ", 3, len(tensors) if count is None else count, len(entries))
    head = b"".join([b"GGUF", counts, *entries, *infos])
    return head + bytes(-len(head) % align) + data
