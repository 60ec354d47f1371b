"""A GGUF output that is written: under temporary names, checked, then renamed. One file, or several splits."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gguf_files.checksums import checksums_entry
from gguf_files.header import MetadataEntry, TensorEntry
from gguf_files.output.part import OutputPart
from gguf_files.output.splits import MOST_SPLITS, SplitLimit, split_metadata, split_paths, split_tensors
from gguf_files.tensors import TensorInfo
from output_files.errors import TargetError
from output_files.whole import explained, partial_file


class GgufOutput:
    """A GGUF output in the making, as a context.

    Leaving it without `commit` leaves nothing behind, unless there is a work folder, which keeps what was written.
    """

    def __init__(
        self,
        target: Path,
        metadata: Sequence[MetadataEntry],
        tensors: Sequence[TensorInfo],
        alignment: int,
        *,
        with_checksums: bool = False,
        split: SplitLimit | None = None,
        work: Path | None = None,
    ) -> None:
        """With checksums, the metadata ends in an entry with those of all tensors (gguf_files.checksums).

        `work` is a folder on the same disk, whose unfinished files of an earlier output of the same layout are gone on
        with (`restore`). Raises TargetError for what llama.cpp would not load.
        """
        groups = split_tensors(tensors, split)
        if len(groups) > MOST_SPLITS:
            raise TargetError(f"{target} would be in {len(groups):,} splits, and {MOST_SPLITS:,} are the most")
        self.target = target
        self.paths = tuple(split_paths(target, len(groups)))
        """The files, in the order of the splits."""
        self._work = work
        self._checksums: dict[int, int] = {}
        self._parts: list[OutputPart] = []
        self._numbers: list[range] = []
        """Of the tensors of each part."""
        self._places: list[tuple[OutputPart, TensorEntry]] = []
        """Of each tensor."""
        self._next = 0
        self._open: OutputPart | None = None

        def entries(number: int) -> Sequence[MetadataEntry]:
            own = metadata
            if with_checksums and number == 0:
                # zeros keep the place of what is not known yet
                own = [*metadata, checksums_entry([self._checksums.get(i, 0) for i in range(len(tensors))])]
            return split_metadata(own, number, len(groups), len(tensors))

        for number, (path, group) in enumerate(zip(self.paths, groups, strict=True)):
            part = OutputPart(path, partial(entries, number), group, alignment)
            self._parts.append(part)
            self._numbers.append(range(len(self._places), len(self._places) + len(group)))
            self._places += [(part, entry) for entry in part.tensors]
        self.size = sum(part.size for part in self._parts)
        """Bytes of the finished files together."""
        self._cleaning = ExitStack()

    def __enter__(self) -> Self:
        try:
            for number, part in enumerate(self._parts, 1):
                if self._work is None:
                    with explained(f"cannot write {part.target}"):
                        place = self._cleaning.enter_context(partial_file(part.target))
                else:
                    place = self._work / f"output-{number:05}.gguf"
                self._use(part, place)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def restore(self, checksums: Mapping[int, int]) -> set[int]:
        """Which of the tensors, by number with the checksum that each should have, an earlier run has written.

        They are read back for it; the others are to be written. Raises TargetError.
        """
        self._checksums = dict(checksums)
        is_complete = len(checksums) == len(self._places)
        for part, numbers in zip(self._parts, self._numbers, strict=True):
            # a run that was killed while it gave the files their names
            if is_complete and part.find_in_place([checksums[i] for i in numbers]):
                continue
            self._use(part)
            for i in numbers:
                if i in checksums and not part.holds(self._places[i][1], checksums[i]):
                    del self._checksums[i]
        return set(self._checksums)

    def write_tensor(self, pieces: Iterable[NDArray[np.uint8]], number: int | None = None) -> int:
        """Write a tensor, given as its rows in pieces, by default the one after the last; returns its CRC-32."""
        number = self._next if number is None else number
        part, entry = self._places[number]
        self._use(part)
        self._checksums[number] = checksum = part.write(entry, pieces)
        self._next = number + 1
        return checksum

    def bring_to_disk(self) -> None:
        """Make what was written last through a power failure. Raises TargetError."""
        if self._open is not None:
            self._open.bring_to_disk()

    def commit(self) -> None:
        """Bring the files to the disk, open them again and check them, and give them their names. Raises TargetError.

        Where there are several, the first, by which the others are found, gets its name last, and an older file of its
        name goes before: whenever this is cut short, no older split is taken for one of these.
        """
        for part in self._parts:
            part.finish()
        for part, numbers in zip(self._parts, self._numbers, strict=True):
            part.check([self._checksums[i] for i in numbers])
        first, *others = self._parts
        if not first.is_in_place and any(not part.is_in_place for part in others):
            with explained(f"cannot replace {first.target}"):
                first.target.unlink(missing_ok=True)
        for part in (*others, first):
            part.put_in_place()

    def _use(self, part: OutputPart, begin: Path | None = None) -> None:
        """Open a part, or begin it. One is open at a time, as there may be more than a process may have open."""
        if self._open is not part and self._open is not None:
            self._open.close()
        self._open = part
        if begin is None:
            part.open()
        else:
            part.begin(begin)

    def _discard(self) -> None:
        if self._open is not None:
            self._open.discard()
        with suppress(OSError):
            self._cleaning.close()
