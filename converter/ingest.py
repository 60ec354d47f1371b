"""From what the user names to an open model: a GGUF file, or a Hugging Face folder made into one."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from converter.errors import OptionError, SourceError
from converter.hf_convert import convert_to_gguf
from converter.hf_folder import HfFolder, read_hf_folder
from converter.llama_cpp import find_llama_dir
from converter.options import ConversionOptions
from converter.progress import Progress
from converter.source import Source, open_gguf
from converter.write import check_not_source, check_space, check_writable


@contextmanager
def open_model(path: Path, target: Path, options: ConversionOptions, progress: Progress) -> Iterator[Source]:
    """Open the model at `path` to be converted to `target`. Raises SourceError, TargetError or OptionError."""
    if not path.exists():
        raise SourceError(f"{path} does not exist; give a Hugging Face model folder or a GGUF file")
    if path.is_dir():
        with _open_hf_folder(path, target, options, progress) as source:
            yield source
        return
    if path.suffix in (".safetensors", ".bin", ".json"):
        raise SourceError(f"{path} is a part of a Hugging Face model; give its folder, {path.resolve().parent}")
    source = open_gguf(path)
    check_not_source(target, source.paths)
    yield source


@contextmanager
def _open_hf_folder(path: Path, target: Path, options: ConversionOptions, progress: Progress) -> Iterator[Source]:
    """The source lives in a temporary file as long as the context does."""
    folder = read_hf_folder(path, options.allow_requantize)
    check_not_source(target, [file for file in path.iterdir() if file.is_file()])
    llama_dir = find_llama_dir(options.llama_dir)
    work_dir = options.work_dir or target.parent
    _check_room(folder, work_dir, target, options)
    with tempfile.TemporaryDirectory(prefix=".eoq-", dir=work_dir) as scratch:
        gguf = Path(scratch) / "source.gguf"
        progress.stage("Hugging Face folder to GGUF", folder.gguf_bytes)
        convert_to_gguf(folder, gguf, llama_dir, options.threads, progress)
        yield open_gguf(gguf)


def _check_room(folder: HfFolder, work_dir: Path, target: Path, options: ConversionOptions) -> None:
    """Check both disks before the work. Raises OptionError or TargetError."""
    if not work_dir.is_dir():
        raise OptionError(f"the work folder {work_dir} does not exist")
    check_writable(work_dir)
    output = folder.least_output_bytes(options)
    if work_dir.stat().st_dev == target.parent.stat().st_dev:
        check_space(work_dir, folder.gguf_bytes + output, "the conversion with its intermediate GGUF")
    else:
        check_space(work_dir, folder.gguf_bytes, "the intermediate GGUF")
        check_space(target.parent, output, f"the output {target.name}")
