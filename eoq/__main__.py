# PYTHON_ARGCOMPLETE_OK
"""`eoq COMMAND …`: all of the project's command lines under one name."""

import importlib
import os
import sys
from collections.abc import Sequence

COMMANDS = {
    "setup": ("llama_programs.setup", "fetch, patch and build llama.cpp in the cache folder"),
    "convert": ("eoq.convert", "convert a model to a GGUF file with EOQ tensor types"),
    "plan": ("eoq.plan", "plan which tensor gets which type"),
    "stats": ("eoq.stats", "collect, show, compare and merge statistics"),
    "verify": ("eoq.verify", "verify a GGUF file with EOQ types"),
    "inspect": ("eoq.inspect", "show what is in a GGUF file: tensors, types, codes"),
    "eval": ("eoq.eval", "compare GGUF files with the one they were made from"),
    "export-hf": ("eoq.export_hf", "write a folder of EOQ codes for Hugging Face's transformers"),
    "mmlu": ("eoq.mmlu", "accuracy on MMLU questions, asked of a running llama-server"),
    "fastewq-dataset": ("eoq.fastewq_dataset", "add models to the data set that FastEWQ learns from"),
    "patch": ("ggml_patch.__main__", "patch a llama.cpp tree of your own"),
}
"""Modules with `make_parser` and `main`, loaded only when they are asked for."""


def usage() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: eoq COMMAND …", "", *lines, "", "eoq COMMAND --help tells more."])


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status. Where a shell asks for completions, gives them and ends the process."""
    if "_ARGCOMPLETE" in os.environ:
        from eoq.completion import complete

        complete(COMMANDS)
    words = list(sys.argv[1:] if words is None else words)
    if not words or words[0] in ("-h", "--help"):
        print(usage())
        return 0 if words else 2
    if words[0] not in COMMANDS:
        print(f"{usage()}\n\nerror: there is no command {words[0]!r}", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[words[0]][0])
    status: int = command.main(words[1:], prog=f"eoq {words[0]}")
    return status


if __name__ == "__main__":
    sys.exit(main())
