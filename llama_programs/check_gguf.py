"""Finished files, shown to llama.cpp's own reader by its program llama-check-gguf."""

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eoq_formats.errors import EoqError
from llama_programs.errors import NoProgramError, ProgramFailed
from llama_programs.find import find_program
from llama_programs.run import ending, listen
from terminal.text import printable

PROGRAM = "llama-check-gguf"
_CRASHES = (-signal.SIGABRT, -signal.SIGSEGV, -signal.SIGBUS, -signal.SIGFPE)
"""Ends of a reader that the file is to blame for. Others, such as SIGKILL where memory is short, say nothing of it."""


class RefusedByLlamaCpp(EoqError):
    """llama.cpp does not take a file."""


@dataclass(frozen=True)
class Answer:
    """What llama.cpp says of a model, in words for a summary."""

    was_asked: bool
    text: str


def check_by_llama_cpp(files: Mapping[Path, Path], source: Sequence[Path], folder: Path | None, threads: int) -> Answer:
    """Whether llama.cpp's reader takes all files of one model, where the program is there to say so.

    `files` are where they lie now, and the names that errors give them. The head of each is read, and every block of
    their tensors; then the model is loaded as far as that needs no weights. Many a file is none that llama.cpp loads,
    so that is an error only where it loads the files of the `source` that they were made from. The program is looked
    for in `folder`, or among those of tools/setup.sh. Raises RefusedByLlamaCpp.
    """
    try:
        program = str(find_program(PROGRAM, folder))
        status, said = listen([program, "--threads", str(threads), *map(str, files)], lambda said: None)
    except (NoProgramError, ProgramFailed) as error:
        return Answer(False, f"llama.cpp has not read it: {error}")
    valid, _, loads = said.partition("\n")
    if not valid.startswith("valid: "):
        if status in _CRASHES:
            raise RefusedByLlamaCpp(f"llama.cpp refuses {_first(files)}: its reader {ending(status)}")
        if status != 1 or not said.startswith("error: "):
            return Answer(False, f"llama.cpp has not read it: {program} {ending(status)}: {_named(said, files)}")
        raise RefusedByLlamaCpp(f"llama.cpp refuses {_named(said, files)}")
    if loads == "loads\n":
        return Answer(True, "llama.cpp reads every block, and loads the model")
    why = loads.strip().removeprefix("does not load: ") or f"its loader {ending(status)}"
    if source and listen([program, "--load-only", *map(str, source)], lambda said: None)[0] == 0:
        raise RefusedByLlamaCpp(f"llama.cpp loads {source[0].name}, but not {_first(files)}: {_named(why, files)}")
    return Answer(True, f"llama.cpp reads every block, but does not load it as a model: {_named(why, files)}")


def _first(files: Mapping[Path, Path]) -> Path:
    return next(iter(files.values()))


def _named(text: str, files: Mapping[Path, Path]) -> str:
    """What the program said, with the names that users know."""
    text = text.strip().removeprefix("error: ")
    for path, name in files.items():
        text = text.replace(str(path), str(name))
    return printable(text)
