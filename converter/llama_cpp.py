"""Where llama.cpp's own converter is found."""

from pathlib import Path

from converter.errors import OptionError, SourceError
from ggml_patch.build import layout
from ggml_patch.fetch import cache_folder
from ggml_patch.versions import PINNED

SCRIPT = "convert_hf_to_gguf.py"


def find_llama_dir(chosen: Path | None) -> Path:
    """The llama.cpp tree to convert Hugging Face folders with: the user's, or that of this project's set-up.

    Raises OptionError for a chosen folder without the converter, SourceError when set-up has not been run.
    """
    if chosen is not None:
        if not (chosen / SCRIPT).is_file():
            raise OptionError(f"--llama-dir {chosen} is no llama.cpp source tree: it has no {SCRIPT}")
        return chosen.resolve()
    current = layout(cache_folder()).source
    # after a change of the patch, an earlier tree serves: the patch does not touch the converter
    earlier = sorted(cache_folder().glob(f"llama.cpp-{PINNED.version}-*/src"), key=lambda path: path.stat().st_mtime)
    for tree in (current, *reversed(earlier)):
        if (tree / SCRIPT).is_file():
            return tree
    raise SourceError(
        "a Hugging Face folder needs llama.cpp's converter, which is not there yet: run tools/setup.sh, "
        "or name a llama.cpp source tree with --llama-dir"
    )
