"""A release as it lies in its folder."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from converter.ingest.projector import MadeProjector
from evaluation import Evaluation, Measurement
from gguf_files.source import open_gguf


@dataclass(frozen=True)
class ReleasedFile:
    """The model in one type."""

    type: str
    """`eoq4t`."""
    paths: tuple[Path, ...]
    """The file, or its splits."""
    nbytes: int
    bits_per_weight: float
    """Over all tensors, metadata aside."""

    @classmethod
    def of(cls, type_name: str, paths: tuple[Path, ...]) -> "ReleasedFile":
        """What the finished file says of itself. Raises SourceError."""
        source = open_gguf(paths[0])
        weights = max(1, sum(t.weights for t in source.tensors))
        return cls(type_name, paths, source.nbytes, 8 * sum(t.nbytes for t in source.tensors) / weights)


@dataclass(frozen=True)
class Release:
    """All files of a model, and what their card tells."""

    folder: Path
    name: str
    files: tuple[ReleasedFile, ...]
    options: tuple[str, ...]
    """Those that all files have in common, as in their metadata."""
    calibration: str | None
    """What the statistics were taken from; None where all was rounded to nearest."""
    repository: str | None
    """`org/name` on the hub of the model that they were made from, where that is known."""
    quantized_by: str | None = None
    evaluation: Evaluation | None = None
    projector: MadeProjector | None = None
    """The file for images and sound, of all types."""
    text_is_other: bool = False
    """Whether the text of the evaluation is known to be none of the calibration's."""

    @property
    def card(self) -> Path:
        return self.folder / "README.md"

    @property
    def hub_name(self) -> str:
        """What its repository may be called: it is for the user to put a name for USER."""
        return f"USER/{self.name}-GGUF"

    @property
    def upload_command(self) -> str:
        return f"hf upload {self.hub_name} {shlex.quote(str(self.folder))}"

    def measurement(self, file: ReleasedFile) -> Measurement | None:
        """Of a file, where the release was evaluated."""
        measured = self.evaluation.measurements if self.evaluation else ()
        return next((m for m in measured if m.model.path == file.paths[0]), None)
