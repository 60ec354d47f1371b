"""The file for llama.cpp's --mmproj: what a model has for images and sound, beside the GGUF of its text."""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from converter.errors import HfConversionError, OptionError
from converter.ingest.hf_convert import run_converter
from converter.ingest.hf_folder import HfFolder, read_hf_folder
from converter.ingest.left_out import counted, makes_projector, sense_tensors
from converter.ingest.open_model import source_files
from converter.options import ConversionOptions, SourceAccess
from gguf_files.gguf_file import GgufFile
from gguf_files.unchanged import file_states, unchanged
from llama_programs.check_gguf import RefusedByLlamaCpp, check_by_llama_cpp
from llama_programs.find import find_llama_dir
from output_files.target import check_space
from output_files.whole import explained, put_in_place
from terminal.progress import Progress

_log = logging.getLogger("eoq")
_SOUND = re.compile(r"audio|sound_|speech_|talker|token2wav|code2wav|conformer")
_FOR_BOTH = ("model-name", "metadata")
"""Options of the converter that are of the projector too."""
_BYTES = {"f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32}


def projector_path(target: Path, type: str) -> Path:
    """Where the projector of an output lies: beside it, `mmproj-NAME-F16.gguf`, as llama.cpp looks for it."""
    return target.with_name(f"mmproj-{target.name.removesuffix('.gguf')}-{type.upper()}.gguf")


@dataclass(frozen=True)
class Projector:
    """A projector that can be made of a Hugging Face folder."""

    folder: HfFolder
    llama_dir: Path
    access: SourceAccess
    type: str
    """As llama.cpp's converter calls it: `f16`."""

    @property
    def nbytes(self) -> int:
        """About how large it gets."""
        return int(sum(t.weights for t in sense_tensors(self.folder)) * _BYTES[self.type])

    def make(
        self, path: Path, named: Path, llama_bin: Path | None, threads: int, progress: Progress
    ) -> "MadeProjector":
        """Write it to `path`, whole or not at all, unless it is there from an earlier run.

        Errors call it `named`. Raises HfConversionError, SourceError, RefusedByLlamaCpp or TargetError.
        """
        if not path.exists():
            check_space((path.parent, self.nbytes, f"the projector {named.name}"))
            progress.stage("Hugging Face folder to projector", self.nbytes)
            partial = path.with_suffix(".part")
            partial.unlink(missing_ok=True)
            passed_on = [word for o in self.access.converter_options if o.name in _FOR_BOTH for word in o.words]
            options = ["--mmproj", "--outtype", self.type, *passed_on]
            with unchanged(file_states(source_files(self.folder.path))):
                run_converter(self.folder, partial, self.llama_dir, options, threads, progress)
            header = GgufFile(partial).header
            if not header.tensors or header.get("general.architecture") != "clip":
                raise HfConversionError(f"llama.cpp's converter made no projector of {self.folder.path}")
            check_by_llama_cpp({partial: named}, (), llama_bin, threads)
            with explained(f"cannot write {path}"):
                put_in_place(partial, path)
        return MadeProjector.of(path, named, self)


@dataclass(frozen=True)
class MadeProjector:
    """A projector that was made."""

    path: Path
    """Where it is until the model is there too."""
    target: Path
    type: str
    tensors: int
    nbytes: int
    senses: str
    """What it is for: `images`, `sound`, or both."""
    note: str
    """On what it lacks; empty if that is nothing."""

    @classmethod
    def of(cls, path: Path, target: Path, projector: Projector) -> "MadeProjector":
        header = GgufFile(path).header
        hears = header.get("clip.has_audio_encoder") is True
        sees = header.get("clip.has_vision_encoder") is True
        senses = " and ".join([*["images"] * sees, *["sound"] * hears]) or "other input than text"
        lacking = [t.name for t in sense_tensors(projector.folder) if not hears and _SOUND.search(t.name)]
        why = "for sound, which llama.cpp's converter does not take over for this architecture"
        note = f"{counted(lacking)} {why}" if lacking else ""
        return cls(path, target, projector.type, len(header.tensors), path.stat().st_size, senses, note)

    @property
    def text(self) -> str:
        """For the summary."""
        size = f"{self.nbytes / 2**20:,.1f} MiB"
        return f"{self.target}: {self.tensors} tensors for {self.senses}, {size}; give it with --mmproj"

    def put_in_place(self) -> None:
        """Give it its name. Raises TargetError."""
        with explained(f"cannot write {self.target}"):
            put_in_place(self.path, self.target)


def find_projector(model_path: Path, access: SourceAccess, type: str | None) -> Projector | None:
    """What can be made of a model's parts for images and sound, as F16 unless a `type` is asked for.

    None for a model without such parts, or of which llama.cpp's converter makes none; where a type is asked for, that
    is an error. Raises OptionError, SourceError or NoProgramError.
    """
    if type == "none":
        return None
    if model_path.is_dir():
        folder = read_hf_folder(model_path, access.allow_requantize, access.keeps_mxfp4)
        llama_dir = find_llama_dir(access.llama_dir)
        if sense_tensors(folder) and makes_projector(folder, llama_dir):
            return Projector(folder, llama_dir, access, type or "f16")
    if type is not None:
        raise OptionError(
            f"--mmproj {type} is of what a Hugging Face folder has for images or sound, and of {model_path} "
            "llama.cpp's converter makes no such file; leave it out"
        )
    return None


def make_projector(
    projector: Projector | None, target: Path, folder: Path, options: ConversionOptions, progress: Progress
) -> MadeProjector | None:
    """Make the projector of an output, for now in a `folder` for the work on it, or find it there from an earlier run.

    One that cannot be made is told in a note, and raises HfConversionError or RefusedByLlamaCpp where it is asked for
    by its type. Raises SourceError or TargetError.
    """
    if projector is None:
        return None
    path, named = folder / f"mmproj-{projector.type}.gguf", projector_path(target, projector.type)
    try:
        return projector.make(path, named, options.calibration.llama_bin, options.threads, progress)
    except (HfConversionError, RefusedByLlamaCpp) as error:
        if options.projector is not None:
            raise
        _log.warning("note: there will be no file for --mmproj, only the model for text: %s", error)
        return None
