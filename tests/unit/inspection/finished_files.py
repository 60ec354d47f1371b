"""Converted files of tiny models, and what may happen to them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray

from converter import ConversionOptions, RoundingOptions, TypeOptions, convert
from gguf_files.header import MetadataEntry, align, pack_entry, pack_header, parse_header
from gguf_files.source import open_gguf
from inspection.verify import Verification, verify
from terminal.progress import Progress
from tests.samples.gguf_samples import tiny_model, write_gguf

Damage = Callable[[NDArray[np.uint8]], None]


def converted(folder: Path, types: TypeOptions | None = None, name: str = "m") -> tuple[Path, Path]:
    """The tiny model rounded to nearest, and its source."""
    source = write_gguf(folder / "source.gguf", tiny_model())
    options = ConversionOptions(types or TypeOptions(), RoundingOptions("nearest", awq=False), threads=1)
    convert(source, folder / f"{name}.gguf", options)
    return folder / f"{name}.gguf", source


def verified(path: Path, against: Path | None = None) -> Verification:
    return verify(open_gguf(path), 2, Progress(), None if against is None else open_gguf(against))


def faults_of(path: Path, against: Path | None = None) -> list[str]:
    return [str(fault) for fault in verified(path, against).faults]


def damage(path: Path, tensor: str, change: Damage) -> None:
    """Change the bytes of a tensor where they lie."""
    data = np.fromfile(path, dtype=np.uint8)
    header = parse_header(data.tobytes())
    entry = next(t for t in header.tensors if t.name == tensor)
    start = header.data_start + entry.offset
    change(data[start : start + entry.nbytes])
    data.tofile(path)


def change_metadata(path: Path, changes: Mapping[str, MetadataEntry | None]) -> None:
    """Put other entries in the place of those under these keys, or nothing."""
    data = path.read_bytes()
    header = parse_header(data)
    kept = [changes.get(e.key, e) for e in header.metadata]
    added = [entry for key, entry in changes.items() if key not in {e.key for e in header.metadata}]
    head = pack_header([e for e in (*kept, *added) if e is not None], header.tensors, header.alignment)
    path.write_bytes(head + data[header.data_start :])


def split(path: Path, count: int = 2) -> list[Path]:
    """Lay a file out in splits, all metadata in the first. The file itself goes."""
    data = path.read_bytes()
    header = parse_header(data)
    paths = []
    for number in range(count):
        first, last = (len(header.tensors) * n // count for n in (number, number + 1))
        tensors, content = [], b""
        for t in header.tensors[first:last]:
            tensors.append(replace(t, offset=len(content)))
            stored = data[header.data_start + t.offset :][: t.nbytes]
            content += stored.ljust(align(t.nbytes, header.alignment), b"\0")
        numbers = {"split.no": number, "split.count": count}
        metadata = [pack_entry(key, GGUFValueType.UINT16, value) for key, value in numbers.items()]
        metadata.append(pack_entry("split.tensors.count", GGUFValueType.INT32, len(header.tensors)))
        kept = header.metadata if number == 0 else header.metadata[:1]
        paths.append(path.with_name(f"{path.stem}-{number + 1:05}-of-{count:05}.gguf"))
        paths[-1].write_bytes(pack_header([*kept, *metadata], tensors, header.alignment) + content)
    path.unlink()
    return paths
