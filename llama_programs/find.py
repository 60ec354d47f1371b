"""Where llama.cpp's programs are found, and the source tree with its converter, a Python script."""

import os
from pathlib import Path

from ggml_patch.versions import PINNED
from llama_programs.build import built_programs, layout, package_name
from llama_programs.errors import BuildError, NoProgramError
from llama_programs.fetch import cache_folder

SCRIPT = "convert_hf_to_gguf.py"


def find_program(name: str, folder: Path | None) -> Path:
    """A program of llama.cpp in `folder`, or the one that set-up built. Raises NoProgramError."""
    if folder is None:
        try:
            folder = built_programs(cache_folder(), [name])
        except BuildError as error:
            raise NoProgramError(f"{error}, or name a folder of llama.cpp programs with --llama-bin") from None
    program = folder / name
    if not os.access(program, os.X_OK) or not program.is_file():
        raise NoProgramError(f"{folder} has no program {name}; build it, or name another folder with --llama-bin")
    return program.absolute()


def find_llama_dir(chosen: Path | None) -> Path:
    """The llama.cpp tree to convert Hugging Face folders with: the user's, or that of this project's set-up.

    Raises NoProgramError for a chosen folder without the converter, or when set-up has not been run.
    """
    if chosen is not None:
        if not (chosen / SCRIPT).is_file():
            raise NoProgramError(f"--llama-dir {chosen} is no llama.cpp source tree: it has no {SCRIPT}")
        return chosen.resolve()
    current, unpacked = layout(cache_folder()).source, cache_folder() / package_name() / "src"
    # after a change of the patch, an earlier tree serves: the patch does not touch the converter
    earlier = sorted(cache_folder().glob(f"llama.cpp-{PINNED.version}-*/src"), key=lambda path: path.stat().st_mtime)
    for tree in (current, unpacked, *reversed(earlier)):
        if (tree / SCRIPT).is_file():
            return tree
    raise NoProgramError(
        "a Hugging Face folder needs llama.cpp's converter, which is not there yet: run eoq setup, "
        "or name a llama.cpp source tree with --llama-dir"
    )
