"""The tools' command lines as their parsers have them, and as they run in this process."""

import argparse
import contextlib
import importlib
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from unittest import mock

import pytest
from _pytest.mark import ParameterSet

from eoq.__main__ import COMMANDS, main

ROOT = Path(__file__).resolve().parents[3]
HUB = "tests/integration/converter/test_hub.py"
"""Has the checks of --revision, whose wrong values are everywhere the same."""
HF_OPTIONS = {
    "nonsense": "is not passed on to llama.cpp's converter; choose of model-name=NAME, metadata=FILE, no-mtp",
    "outtype=f32": "the intermediate file and its type are EOQ's matter",
    "fuse-qkv=1": "--hf-option fuse-qkv takes no value",
    "model-name": "--hf-option model-name needs a value: model-name=NAME",
    "metadata=none": "there is no file none",
    "fuse-qkv": "--hf-option is for Hugging Face folders",
}
"""Wrong values of --hf-option; the last is of a model that is no folder."""
REVISIONS = {"main": "--revision is for a model of the Hugging Face Hub (org/name)", " ": "--revision is empty"}


@dataclass(frozen=True)
class Option:
    """An option of a tool, or of one of its subcommands."""

    tool: str
    """As in `eoq TOOL`."""
    subcommand: str
    """Empty where the tool has none."""
    action: argparse.Action

    @property
    def flag(self) -> str:
        """`--json`; of what has a place and no name, that name in the help."""
        return self.action.option_strings[-1] if self.action.option_strings else str(self.action.dest)

    @property
    def name(self) -> str:
        """Unique within the tool: `--json`, or `collect --json`."""
        return f"{self.subcommand} {self.flag}".strip()

    @property
    def is_optional(self) -> bool:
        return bool(self.action.option_strings)

    @property
    def takes_value(self) -> bool:
        return self.is_optional and self.action.nargs != 0

    @property
    def is_number(self) -> bool:
        return self.action.type in (int, float)

    def __str__(self) -> str:
        return f"{self.tool} {self.name}"


class _Parser(BaseException):
    """Carries a parser out of the function that makes it."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


@cache
def parser_of(tool: str) -> argparse.ArgumentParser:
    """The parser that a tool gives its words to."""

    def parse_args(self: argparse.ArgumentParser, *arguments: object) -> None:
        raise _Parser(self)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args):
        try:
            importlib.import_module(COMMANDS[tool][0]).main(["x"], prog=f"eoq {tool}")
        except _Parser as found:
            return found.parser
    raise AssertionError(f"eoq {tool} parses nothing with argparse")


def all_of(tool: str) -> Iterator[Option]:
    """Options and places, those of subcommands too."""

    def walk(parser: argparse.ArgumentParser, subcommand: str) -> Iterator[Option]:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for name, below in action.choices.items():
                    yield from walk(below, name)
            elif not isinstance(action, argparse._HelpAction):
                yield Option(tool, subcommand, action)

    yield from walk(parser_of(tool), "")


def options_of(tool: str) -> dict[str, Option]:
    """By name."""
    return {option.name: option for option in all_of(tool) if option.is_optional}


@dataclass(frozen=True)
class Done:
    """A tool that has ended."""

    status: int
    out: str
    err: str


def run(tool: str, *words: object) -> Done:
    """Run a tool in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([tool, *map(str, words)])
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), err.getvalue())


def done(tool: str, *words: object) -> str:
    """Run a tool that goes well; returns what it said on standard output."""
    ended = run(tool, *words)
    assert ended.status == 0, ended.err
    return ended.out


def refused(tool: str, *words: object) -> str:
    """Run a tool that refuses its words in one line, argparse's usage aside; returns that line."""
    ended = run(tool, *words)
    assert ended.status in (1, 2), (words, ended)
    before, error, line = ended.err.rpartition("error: ")
    assert error and line.count("\n") == 1 and line.endswith("\n"), ended.err
    assert "Traceback" not in ended.err
    assert before == "" if ended.status == 1 else before.startswith("usage: "), ended.err
    return line.removesuffix("\n")


Effect = Callable[..., None]
"""Runs a tool with an option, and fails if the option does nothing."""


@dataclass(frozen=True)
class Walk:
    """What is known of the options of one tool, by name."""

    tool: str
    effects: Mapping[str, Effect | str]
    """A check, or the test elsewhere that is one: `tests/unit/x/test_y.py::test_z`."""
    wrong: Mapping[str, Mapping[str, str]]
    """Values that are refused, with a part of what is said of them; numbers that are none are tried without it."""
    words: tuple[str, ...]
    """Of a run that goes well, to which wrong values are added; `{m}` and the like stand for inputs."""
    words_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """In their place, for options that are heeded elsewhere."""


def checks(effects: Mapping[str, Effect | str]) -> list[ParameterSet]:
    """The checks, each once and under the names of its options."""
    by_check: dict[Effect, list[str]] = {}
    for name, effect in effects.items():
        if not isinstance(effect, str):
            by_check.setdefault(effect, []).append(name)
    return [pytest.param(check, id=", ".join(names)) for check, names in by_check.items()]
