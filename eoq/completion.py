"""Completion of `eoq` in a shell, by argcomplete's protocol. Only the parser of the command at hand is made."""

import argparse
import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import argcomplete
from argcomplete.completers import BaseCompleter, DirectoriesCompleter, FilesCompleter
from argcomplete.lexers import split_line

from eoq_formats.types import WEIGHT_TYPES


def complete(commands: Mapping[str, tuple[str, str]]) -> None:
    """Tell the shell how its line may go on, and end the process. `commands`: names, with their module and purpose."""
    words = split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))[3]
    # where the line's words begin: 1 for `eoq …`, 3 for `python -m eoq …`
    start = int(os.environ["_ARGCOMPLETE"])
    name = words[start] if len(words) > start else None
    if name is not None and name in commands:
        parser = importlib.import_module(commands[name][0]).make_parser(f"eoq {name}")
        # the command takes the place of the program
        os.environ["_ARGCOMPLETE"] = str(start + 1)
    else:
        parser = argparse.ArgumentParser(prog="eoq")
        if name is None:
            subparsers = parser.add_subparsers()
            for command, (_, purpose) in commands.items():
                subparsers.add_parser(command, help=purpose)
    argcomplete.autocomplete(parser, default_completer=_Values())


class _Values(BaseCompleter):
    """What a word may become, by how the help names its place."""

    def __call__(self, *, prefix: str, action: argparse.Action, **_: object) -> Iterable[str]:
        metavar = str(action.metavar)
        if metavar.startswith("TYPE"):
            before = prefix[: prefix.rfind(",") + 1] if "," in metavar else ""
            return [before + kind.name.lower() for kind in WEIGHT_TYPES]
        if metavar in ("DIR", "FOLDER", "TREE"):
            return DirectoriesCompleter()(prefix=prefix)
        if action.type is Path or metavar.startswith(("FILE", "MODEL")):
            suffix = metavar.partition(".")[2]
            return FilesCompleter([suffix] if suffix else [])(prefix=prefix)
        return []
