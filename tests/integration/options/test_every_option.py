"""Every option of every tool is documented, parsed and effective; a new one without a check of its effect fails here.

What an option does stands beside this file, tool by tool.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from converter import CalibrationOptions, RoundingOptions, TypeOptions
from converter.plan.planners import Budget, EwqRequest
from eoq.__main__ import COMMANDS
from eoq.export_hf import DEFAULT_BITS
from tests.integration.options import (
    test_convert,
    test_evaluation,
    test_export_hf,
    test_files,
    test_llama_cpp,
    test_plan,
    test_stats,
)
from tests.integration.options.conftest import Place
from tests.integration.options.tools import ROOT, Option, Walk, all_of, options_of, parser_of, refused, run
from tests.unit.evaluation.conftest import MakeModel, fake_bin, make_model, text
from tests.unit.evaluation.mmlu.test_comparison import write_answers
from tests.unit.evaluation.mmlu.test_mmlu import folder as questions

__all__ = ["fake_bin", "make_model", "questions", "text"]

WALKS = {
    walk.tool: walk
    for walk in (
        test_convert.WALK,
        test_plan.WALK,
        test_stats.WALK,
        test_files.VERIFY,
        test_files.INSPECT,
        test_files.DATASET,
        test_export_hf.WALK,
        test_evaluation.EVAL,
        test_evaluation.MMLU,
        test_llama_cpp.SETUP,
        test_llama_cpp.PATCH,
    )
}
PAGES = {
    "convert": ("docs/convert_eoq.md",),
    "plan": ("docs/plan_eoq.md",),
    "stats": ("docs/statistics.md",),
    "verify": ("docs/verify_eoq.md",),
    "inspect": ("docs/inspect_eoq.md",),
    "export-hf": ("docs/transformers/export_hf.md",),
    "eval": ("docs/eval_eoq.md",),
    "mmlu": ("docs/eval_mmlu.md",),
    "fastewq-dataset": ("docs/plan_eoq.md",),
    "setup": ("docs/install.md",),
    "patch": ("README.md", "CONTRIBUTING.md"),
}
_CALIBRATION, _ROUNDING, _TYPES = CalibrationOptions(), RoundingOptions(), TypeOptions()
_CALIBRATED = {
    "--calib-tokens": _CALIBRATION.tokens,
    "--calib-length": _CALIBRATION.sequence_length,
    "--calib-memory": _CALIBRATION.memory_limit / 2**30,
    "--gpu-layers": _CALIBRATION.gpu_layers,
}
LIBRARY: Mapping[str, Mapping[str, object]] = {
    "convert": {
        **_CALIBRATED,
        "--type": _TYPES.type,
        "--context": Budget.context,
        "--output-type": _TYPES.default_output.name,
        "--device": _ROUNDING.device,
        "--damping": _ROUNDING.damping,
        "--shrinkage": _ROUNDING.shrinkage,
        "--effort": _ROUNDING.effort,
    },
    "stats": {f"collect {name}": value for name, value in _CALIBRATED.items()},
    "export-hf": {"--bits": DEFAULT_BITS},
    "plan": {"--epsilon": EwqRequest().epsilon},
}
"""Defaults that the library has, where the command line leaves the option away."""
NOTHING_WITHOUT = {
    *("--plan", "--stats", "--imatrix", "--json", "--plot", "--against", "--tensor", "--base-logits", "--dev"),
    *("--target-bpw", "--target-size", "--fit-memory", "--cuda", "--split-max-size", "--split-max-tensors"),
}
"""Options whose absence needs no words: what they ask for is left out."""

TOOLS = pytest.mark.parametrize("tool", COMMANDS)
ALL = [option for tool in COMMANDS for option in all_of(tool)]
VALUES = [option for option in ALL if option.takes_value]


def each(options: list[Option]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("option", options, ids=str)


@TOOLS
def test_every_option_has_a_check_of_its_effect(tool: str) -> None:
    assert set(WALKS[tool].effects) == set(options_of(tool))


def functions(path: Path) -> dict[str, str]:
    """Source of the test functions of a file that are not switched off."""
    source = path.read_text()
    found = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    decorated = {name: "".join(map(ast.unparse, node.decorator_list)) for name, node in found.items()}
    return {
        name: decorated[name] + ast.unparse(node)
        for name, node in found.items()
        if "skip" not in decorated[name] and "xfail" not in decorated[name]
    }


ELSEWHERE = [
    (walk.tool, name, effect)
    for walk in WALKS.values()
    for name, effect in walk.effects.items()
    if isinstance(effect, str)
]


@pytest.mark.parametrize(("tool", "name", "place"), ELSEWHERE, ids=" ".join)
def test_checks_elsewhere_are_there_and_use_the_option(tool: str, name: str, place: str) -> None:
    file, _, function = place.partition("::")
    source = functions(ROOT / file).get(function)
    assert source is not None, f"{place}, which checks {tool} {name}, is gone"
    assert name.rpartition(" ")[2] in source, f"{place} says nothing of {name} any more"


@each(ALL)
def test_help_tells_what_it_does(option: Option) -> None:
    assert option.action.help and option.action.help.strip()


def shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@each(VALUES)
def test_help_tells_its_default(option: Option) -> None:
    """That of the code."""
    said, action = option.action.help or "", option.action
    default = LIBRARY.get(option.tool, {}).get(option.name, action.default)
    if default not in (None, []) and (option.tool, option.name) != ("setup", "--jobs"):
        value = re.escape(shown(default))
        assert re.search(rf"(^|\W){value} \(default\)|\(default: {value}\)", said), f"{default} is not in: {said}"
    elif not action.required and default is None and option.flag not in NOTHING_WITHOUT:
        found = re.search(r"\(default(: | of )(.+?)\)", said)
        assert found, f"what is without it? {said}"
        assert not re.fullmatch(r"[\d.]+", found[2]), (
            f"{found[2]} is of nothing that this test knows: put it in LIBRARY"
        )


def rows(page: str) -> Iterator[tuple[str, str]]:
    """First cell and the rest of every row of the tables of a page."""
    for line in (ROOT / page).read_text().splitlines():
        if line.startswith("| `"):
            first, _, rest = line.removeprefix("| ").partition(" | ")
            yield first, rest


@each([option for option in ALL if option.is_optional])
def test_the_documentation_has_it(option: Option) -> None:
    pages = PAGES[option.tool]
    assert any(re.search(rf"(?<![\w-]){option.flag}(?![\w-])", (ROOT / page).read_text()) for page in pages)


@each(VALUES)
def test_the_documentation_has_its_default(option: Option) -> None:
    """Where it names one."""
    default = LIBRARY.get(option.tool, {}).get(option.name, option.action.default)
    for page in PAGES[option.tool]:
        for first, rest in rows(page):
            options = re.findall(r"--[a-z-]+", first)
            said = re.search(r"default `?(\d[\d.]*|eoq\w+)|\((\d[\d.]*)\)", rest)
            if options == [option.flag] and default not in (None, []) and said:
                assert (said[1] or said[2]).rstrip(".") == shown(default), f"{page}: {rest}"


@TOOLS
def test_the_documentation_has_no_others(tool: str) -> None:
    page = PAGES[tool][0]
    if page.startswith("docs/"):
        known = {option.flag for other, pages in PAGES.items() if page in pages for option in all_of(other)}
        for first, _ in rows(page):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", first)) <= known, first


@each([option for option in VALUES if option.is_number or option.action.choices])
def test_what_is_none_of_its_values_is_refused(option: Option) -> None:
    assert option.flag in refused(option.tool, *words_before(option), option.flag, "nonsense")


def words_before(option: Option) -> list[str]:
    return [option.subcommand] * bool(option.subcommand)


@each([option for option in VALUES if not option.is_number and not option.action.choices])
def test_wrong_values_are_known(option: Option) -> None:
    """Of all but those that take any text."""
    assert WALKS[option.tool].wrong.get(option.name) or (option.tool, option.name) in ANYTHING


ANYTHING = {("setup", "--cuda"), ("patch", "key --build-option"), ("verify", "--llama-bin")}
"""CMake's to judge, not judged at all, and what is missing there is told in a note."""

NUMBERS = ("0", "-1", "1", str(2**31), "9" * 20, "nan", "inf", "1e400", "-0.0", "1e-320")
"""Some of them are right for some options."""


@pytest.fixture
def names(place: Place, make_model: MakeModel, text: Path, fake_bin: Path, questions: Path) -> dict[str, object]:
    """What the words of a walk stand for."""
    return {
        "m": place.inputs.model,
        "hf": place.inputs.hf_folder,
        "bin": place.inputs.llama_bin,
        "out": place.folder,
        "text": text,
        "perplexity_bin": fake_bin,
        "eval_base": make_model("base.gguf"),
        "eval_model": make_model("model.gguf"),
        "questions": questions / "test",
        "answers": write_answers(questions / "answers.json"),
    }


def command(walk: Walk, option: Option, value: str, names: Mapping[str, object]) -> list[str]:
    """The words of a run that goes well, and the option."""
    words = [word.format(**names) for word in walk.words_for.get(option.name, walk.words)]
    return [*words, f"{option.flag}={value}"]


@each([option for option in VALUES if WALKS[option.tool].wrong.get(option.name)])
def test_wrong_values_end_in_one_line(
    option: Option, names: Mapping[str, object], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leave nothing behind."""
    monkeypatch.chdir(place.inputs.folder)
    walk = WALKS[option.tool]
    before = sorted(place.inputs.folder.rglob("*"))
    for value, message in walk.wrong[option.name].items():
        said = refused(walk.tool, *command(walk, option, value.format(**names), names))
        assert message in said, (value, said)
    assert not list(place.folder.iterdir()) and sorted(place.inputs.folder.rglob("*")) == before


@each([option for option in VALUES if option.is_number])
def test_numbers_do_or_end_in_one_line(
    option: Option, names: Mapping[str, object], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_programs.setup.ensure_source", lambda cache, kind: "src")
    monkeypatch.chdir(place.inputs.folder)
    walk = WALKS[option.tool]
    for value in NUMBERS:
        words = command(walk, option, value, names)
        if run(walk.tool, *words).status:
            refused(walk.tool, *words)


def test_a_new_option_would_be_noticed() -> None:
    parser = parser_of("inspect")
    action = parser.add_argument("--new")
    try:
        with pytest.raises(AssertionError, match="--new"):
            test_every_option_has_a_check_of_its_effect("inspect")
    finally:
        parser._remove_action(action)
        del parser._option_string_actions["--new"]
