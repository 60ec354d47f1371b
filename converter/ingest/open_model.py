"""From what the user names to an open model: a GGUF file, or a Hugging Face folder made into one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.errors import OptionError
from converter.ingest.hf_convert import convert_to_gguf
from converter.ingest.hf_folder import layout_of, read_hf_folder
from converter.options import SourceAccess, check_threads
from gguf_files.errors import SourceError
from gguf_files.output.splits import SPLIT_NAME, split_paths
from gguf_files.source import Source, open_gguf
from gguf_files.unchanged import file_states, unchanged
from llama_programs.find import find_llama_dir
from output_files.leftovers import scratch_folder
from output_files.target import check_not_input, check_space, check_writable
from output_files.whole import explained, put_in_place
from terminal.progress import Progress

_READ = (".safetensors", ".bin", ".json", ".model")
"""Ends of the names of the files that llama.cpp's converter makes a model of."""


def model_files(model_path: Path) -> list[Path]:
    """The files of a model that are known before it is opened: those of a Hugging Face folder, or the file named."""
    return [file for file in model_path.iterdir() if file.is_file()] if model_path.is_dir() else [model_path]


def source_files(model_path: Path) -> list[Path]:
    """The files that a model is made of: those of a Hugging Face folder which are read, or a GGUF with its splits.

    Raises SourceError for what names no model.
    """
    if not model_path.exists():
        raise SourceError(
            f"{model_path} does not exist; give a Hugging Face model folder, a GGUF file, or the id of a "
            "model on the Hugging Face Hub (org/name)"
        )
    if model_path.is_dir():
        # others, such as logs, may go on growing
        return sorted(file for file in model_files(model_path) if file.suffix in _READ)
    if model_path.suffix in (".safetensors", ".bin", ".json"):
        raise SourceError(
            f"{model_path} is a part of a Hugging Face model; give its folder, {model_path.resolve().parent}"
        )
    name = SPLIT_NAME.fullmatch(model_path.name)
    splits = split_paths(model_path.with_name(name["stem"] + ".gguf"), int(name["count"])) if name else []
    return [path for path in splits if path.exists()] or [model_path]


@contextmanager
def open_model(
    model_path: Path,
    target: Path,
    access: SourceAccess,
    threads: int,
    progress: Progress,
    least_output_bits: float = 0.0,
    statistics_folder: Path | None = None,
    kept: Path | None = None,
) -> Iterator[Source]:
    """Open the model at `model_path`, to write `target` from it. Raises SourceError, TargetError or OptionError.

    A Hugging Face folder becomes an intermediate GGUF, which lives as long as the context and lies beside `target`
    unless `access` names a work folder; or it is `kept`, a file, from an earlier run and for later ones. Room for it is
    asked for, and for an output of so many bits for each weight at the least, and for statistics in a folder of theirs.
    """
    check_threads(threads)
    if access.work_dir is not None:
        if not access.work_dir.is_dir():
            raise OptionError(f"the work folder {access.work_dir} does not exist")
        check_writable(access.work_dir)
    files = source_files(model_path)
    if model_path.is_dir():
        with _open_hf_folder(
            model_path, files, target, access, threads, progress, least_output_bits, statistics_folder, kept
        ) as source:
            yield source
        return
    if access.hf_options and not access.is_intermediate:
        raise OptionError(f"--hf-option is for Hugging Face folders, and {model_path} is none; leave it out")
    source = open_gguf(model_path)
    check_not_input(target, source.paths)
    yield source


@contextmanager
def _open_hf_folder(
    path: Path,
    files: Sequence[Path],
    target: Path,
    access: SourceAccess,
    threads: int,
    progress: Progress,
    least_output_bits: float,
    statistics_folder: Path | None,
    kept: Path | None,
) -> Iterator[Source]:
    folder = read_hf_folder(path, access.allow_requantize, access.keeps_mxfp4, layout_of(access))
    check_not_input(target, [*model_files(path), *(option.file for option in access.converter_options)])
    llama_dir = find_llama_dir(access.llama_dir)
    work_dir = access.work_dir or target.parent
    needs = [
        (target.parent, int(folder.weights * least_output_bits / 8), f"the output {target.name}"),
    ]
    if statistics_folder is not None:
        needs.append((statistics_folder, folder.least_statistics_bytes, "the statistics"))
    if kept is not None and kept.exists():
        yield open_gguf(kept, named=path)
        return
    check_space((work_dir, folder.gguf_bytes, "the intermediate GGUF"), *needs)

    def make(gguf: Path) -> None:
        progress.stage("Hugging Face folder to GGUF", folder.gguf_bytes)
        with unchanged(file_states(files)):
            convert_to_gguf(folder, gguf, llama_dir, threads, progress, access)

    if kept is not None:
        partial = kept.with_suffix(".part")
        partial.unlink(missing_ok=True)
        make(partial)
        with explained(f"cannot write {kept}"):
            put_in_place(partial, kept)
        yield open_gguf(kept, named=path)
        return
    with scratch_folder(work_dir) as scratch:
        gguf = scratch / "source.gguf"
        make(gguf)
        yield open_gguf(gguf, named=path)
