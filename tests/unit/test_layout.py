"""The house's floors: who may import whom, no circles, and no room with too much in it."""

import ast
import shutil
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

FLOORS: tuple[tuple[str, ...], ...] = (
    ("eoq_formats",),
    ("terminal", "input_files", "output_files", "ggml_patch"),
    ("gguf_files", "llama_programs", "eoq_transformers"),
    ("evaluation", "material", "eoq_vllm", "converter.errors", "converter.sizes", "converter.torch_settings"),
    ("converter.type_choice",),
    ("converter.options",),
    ("converter.ingest", "converter.statistics", "converter.plan"),
    ("converter.rounding", "converter.calibrate"),
    ("converter.report",),
    ("converter.scaling", "converter.plan.planners", "converter.checkpoint"),
    ("converter.plan.cluster",),
    ("converter.memory", "converter.rounding_method"),
    ("converter.rounded_tensors",),
    ("converter.remote",),
    ("converter.pipeline", "converter.planning"),
    ("converter.release",),
    ("converter",),
    ("inspection",),
    ("hf_export",),
    ("eoq", "bench"),
    ("tools", "tests"),
)
"""Packages and modules from the ground up. Each imports from its own floor and lower ones alone.

A name stands for all below it that has no line of its own: `converter` is its __init__.py, and what is new there.
"""

MOST_FILES = 15
MORE_FILES: Mapping[str, int] = {"tools": 16}
"""Folders with more than that, which must not grow; a line goes when its folder is split."""
MOST_CONVERTER_MODULES = 12

PACKAGES = {name.partition(".")[0] for floor in FLOORS for name in floor}
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}


@cache
def modules() -> dict[str, Path]:
    """All first-party Python files by module name; a package is its __init__.py, or has none."""
    found = {}
    for package in sorted(PACKAGES):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(path: Path) -> Iterator[str]:
    """Full names of whatever a file imports, anywhere in it: also in functions, and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level and node.module, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imports() -> dict[str, set[str]]:
    """The first-party modules that each module names. That a package's __init__.py runs as well is left aside."""
    found: dict[str, set[str]] = {}
    for module, path in modules().items():
        found[module] = set()
        for name in imported_names(path):
            if name.partition(".")[0] in PACKAGES:
                target = name if name in modules() else name.rpartition(".")[0]
                assert target in modules(), f"{path} imports {name}, which does not exist"
                found[module].add(target)
    return found


def room_of(module: str) -> str:
    """The line of FLOORS that a module belongs to, the longest that fits."""
    fitting = [name for name in FLOOR_OF if module == name or module.startswith(name + ".")]
    return max(fitting, key=len)


def assert_no_circle(graph: Mapping[str, set[str]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("they import each other in a circle: " + " <- ".join(error.args[1]))


def test_every_import_is_found() -> None:
    """The walk sees late imports, those for types alone, and modules that are imported from their package."""
    graph = imports()
    assert "converter.calibrate.obtain_statistics" in graph["converter.rounding_method"]  # in a function
    assert "evaluation.mmlu" in graph["eoq.mmlu"]  # under TYPE_CHECKING
    assert "converter.plan.planners.ewq" in graph["converter.plan.planners.propose"]  # from its package
    assert len(graph) > 300 and len(PACKAGES) == len({module.partition(".")[0] for module in graph})


def test_every_package_of_the_tree_has_a_floor() -> None:
    folders = {path.parent.name for path in ROOT.glob("[!.]*/*.py")}
    assert folders == PACKAGES
    assert set(FLOOR_OF) <= set(modules()) | {"bench", "tools", "tests"}, "a line of FLOORS names nothing"


def test_a_circle_is_noticed() -> None:
    assert_no_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    with pytest.raises(pytest.fail.Exception, match="circle: "):
        assert_no_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert_no_circle(imports())


def test_no_packages_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module, targets in imports().items():
        graph.setdefault(room_of(module), set()).update(map(room_of, targets))
    assert_no_circle({room: targets - {room} for room, targets in graph.items()})


def test_nothing_is_imported_from_a_higher_floor() -> None:
    upwards = [
        f"{module} (floor {own}) imports {target} (floor {other})"
        for module, targets in imports().items()
        for target in sorted(targets)
        if (other := FLOOR_OF[room_of(target)]) > (own := FLOOR_OF[room_of(module)])
    ]
    assert not upwards, "\n".join(upwards)


def test_the_converter_keeps_its_modules_in_rooms() -> None:
    assert len(list((ROOT / "converter").glob("*.py"))) <= MOST_CONVERTER_MODULES


def test_no_folder_holds_too_many_files() -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    counts = Counter(Path(name).parent.as_posix() for name in listed.split("\0") if name)
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES} == MORE_FILES


def test_the_patch_imports_the_standard_library_and_the_table_of_types_alone() -> None:
    allowed = {"eoq_formats", "eoq_formats.errors", "eoq_formats.types"}
    for module, path in modules().items():
        if room_of(module) == "ggml_patch":
            assert {t for t in imports()[module] if room_of(t) != "ggml_patch"} <= allowed, module
            outside = {name.partition(".")[0] for name in imported_names(path)} - PACKAGES
            assert outside <= sys.stdlib_module_names, module


def test_the_patch_loads_no_package_of_others(tmp_path: Path) -> None:
    """In a process of its own, which could load them."""
    wanted = [module for module in modules() if room_of(module) == "ggml_patch"]
    script = f"""
        import importlib, sys
        sys.path.insert(0, {str(ROOT)!r})
        before = set(sys.modules)
        for name in {wanted!r}:
            importlib.import_module(name)
        print(*sorted(set(sys.modules) - before), sep="\\n")
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    loaded = done.stdout.split()
    assert set(wanted) <= set(loaded)
    ours = {name for name in loaded if name.partition(".")[0] in PACKAGES}
    assert {name for name in ours if room_of(name) != "ggml_patch"} == {
        "eoq_formats",
        "eoq_formats.errors",
        "eoq_formats.types",
    }
    assert {name.partition(".")[0] for name in set(loaded) - ours} <= sys.stdlib_module_names
