"""From a Hugging Face folder to a GGUF: llama.cpp's own converter, in a process of its own."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from converter.errors import HfConversionError
from converter.ingest import hf_launcher
from converter.ingest.converter_words import converter_error
from converter.ingest.hf_folder import HfFolder
from converter.ingest.hub.names import model_name
from converter.ingest.left_out import left_out, not_taken_over
from converter.ingest.watched import run_watched
from converter.options import SourceAccess
from gguf_files.gguf_file import GgufFile
from output_files.leftovers import scratch_folder
from terminal.progress import Progress

_log = logging.getLogger("eoq")


def convert_to_gguf(
    folder: HfFolder,
    target: Path,
    llama_dir: Path,
    threads: int,
    progress: Progress,
    access: SourceAccess | None = None,
) -> None:
    """Write the model to `target` in the precision that it has. Raises HfConversionError; the caller removes leftovers.

    Of `access` the options for the converter count, and whether what is left out is told. No code of the model's own is
    run, and nothing is downloaded.
    """
    access = access or SourceAccess()
    for note in left_out(folder, llama_dir, tells_of_senses=access.tells_of_senses):
        _log.warning("note: %s", note)
    passed_on = [word for option in access.converter_options for word in option.words]
    run_converter(folder, target, llama_dir, ["--outtype", folder.outtype, *passed_on], threads, progress)
    names = [t.name for t in GgufFile(target).header.tensors]
    if not any(option.name == "no-mtp" for option in access.converter_options):
        for note in not_taken_over(folder, names):
            _log.warning("note: %s", note)


def run_converter(
    folder: HfFolder, target: Path, llama_dir: Path, options: Sequence[str], threads: int, progress: Progress
) -> None:
    """Run llama.cpp's converter on a folder. Raises HfConversionError; the caller removes leftovers."""

    def written() -> int:
        return target.stat().st_size if target.exists() else 0

    with _named_folder(folder.path) as named, tempfile.TemporaryFile() as log:
        command = [sys.executable, hf_launcher.__file__, str(llama_dir), *options, "--outfile", str(target), str(named)]
        code = run_watched(command, _environment(threads), log.fileno(), log.fileno(), written, progress)
        log.seek(0)
        said = log.read().decode(errors="replace")
    if code != 0:
        raise HfConversionError(converter_error(folder.path, code, said.replace(str(named), str(folder.path))))
    if not target.exists():
        raise HfConversionError(f"llama.cpp's converter ended without writing a file for {folder.path}")


@contextmanager
def _named_folder(path: Path) -> Iterator[Path]:
    """The folder by a path that ends in the model's name, which the converter takes it from.

    In the cache of the Hugging Face Hub it ends in a commit, below that of a repository: a link stands for it then.
    """
    resolved = path.resolve()
    if (name := model_name(path)) == resolved.name:
        yield resolved
        return
    with scratch_folder(Path(tempfile.gettempdir())) as scratch:
        link = scratch / name
        link.symlink_to(resolved, target_is_directory=True)
        yield link


def _environment(threads: int) -> dict[str, str]:
    return os.environ | {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": str(threads),
    }
