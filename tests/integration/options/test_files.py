"""Every option of the tools that look at finished files, verify_eoq.py and inspect_eoq.py, and of the data set's."""

import json

import pytest

from tests.integration.converter.test_plan_command import model
from tests.integration.options.conftest import Place, from_folder
from tests.integration.options.tools import HF_OPTIONS, HUB, REVISIONS, Effect, Walk, checks, done
from tests.samples.check_program import LOADS, check_program

__all__ = ["model"]


def against(place: Place) -> None:
    """What the file was made from: itself, here."""
    alone = done("verify", place.inputs.model)
    both = done("verify", place.inputs.model, "--against", place.inputs.model)
    assert "is sound" in alone and "is sound" in both and len(both) > len(alone)


def verify_json(place: Place) -> None:
    file = place.folder / "v.json"
    done("verify", place.inputs.model, "--json", file)
    assert json.loads(file.read_text())["faults"] == []


def verify_threads(place: Place) -> None:
    tensors = place.threads_of("inspection.verify.check_tensors", 2)
    compared = place.threads_of("inspection.verify.compare", 2)
    done("verify", place.inputs.model, "--against", place.inputs.model, "--threads", 3)
    assert tensors == compared == [3]


def verify_llama_bin(place: Place) -> None:
    folder = check_program(place.folder, LOADS)
    assert "llama.cpp reads every block" in done("verify", place.inputs.model, "--llama-bin", folder)
    (folder / "llama-check-gguf").unlink()
    assert "llama.cpp has not read it" in done("verify", place.inputs.model, "--llama-bin", folder)


def inspect_threads(place: Place) -> None:
    used = place.threads_of("eoq_formats.kernels.set_threads", 0)
    done("inspect", place.inputs.model, "--threads", 1)
    assert used == [1]


IN_INSPECT = "tests/unit/inspection/test_inspect.py"
from_hf_folder = from_folder("verify", "{hf}/made.gguf", "--against", "{hf}")
VERIFY = Walk(
    "verify",
    {
        "--against": against,
        "--json": verify_json,
        "--threads": verify_threads,
        "--llama-bin": verify_llama_bin,
        "--revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
        "--hf-option": from_hf_folder,
        "--llama-dir": from_hf_folder,
        "--work-dir": from_hf_folder,
    },
    {
        "--against": {"none": "none does not exist"},
        "--json": {"none/v.json": "none of the output does not exist"},
        "--revision": REVISIONS,
        "--hf-option": HF_OPTIONS,
        "--llama-dir": {"none": "none is no llama.cpp source tree"},
        "--work-dir": {"none": "the work folder none does not exist"},
    },
    ("{m}", "--against", "{m}"),
    {"--llama-dir": ("{m}", "--against", "{hf}")},
)
INSPECT = Walk(
    "inspect",
    {
        "--tensor": f"{IN_INSPECT}::test_some_tensors",
        "--threads": inspect_threads,
        "--json": f"{IN_INSPECT}::test_a_file_of_many_types",
        "--plot": f"{IN_INSPECT}::test_a_file_of_many_types",
    },
    {
        "--tensor": {"(": "expression", "nonsense": "nonsense"},
        "--json": {"none/i.json": "none of the output does not exist"},
        "--plot": {"none/i.png": "none of the output does not exist"},
    },
    ("{m}",),
)


def x(place: Place) -> None:
    """A lower threshold leaves other blocks as they are."""
    path = model.__wrapped__(place.folder)  # type: ignore[attr-defined]
    rows: list[list[str]] = []
    for words in (("--x", 0), ("--x", 1), ()):
        file = place.folder / f"{len(rows)}.csv"
        done("fastewq-dataset", file, path, *words)
        rows.append(file.read_text().splitlines()[-4:])
    assert rows[0] != rows[1] == rows[2]


def dataset_threads(place: Place) -> None:
    used = place.threads_of("converter.plan.planners.ewq.matrix_entropy", 3)
    done("fastewq-dataset", place.folder / "b.csv", place.inputs.model, "--threads", 3)
    assert set(used) == {3}


from_a_folder = from_folder("fastewq-dataset", "{out}/b.csv", "{hf}")
DATASET = Walk(
    "fastewq-dataset",
    {
        "--x": x,
        "--threads": dataset_threads,
        "--revision": f"{HUB}::test_every_tool_takes_ids_and_revisions",
        "--hf-option": from_a_folder,
        "--llama-dir": from_a_folder,
        "--work-dir": from_a_folder,
    },
    {
        "--revision": REVISIONS,
        "--hf-option": HF_OPTIONS,
        "--llama-dir": {"none": "none is no llama.cpp source tree"},
        "--work-dir": {"none": "the work folder none does not exist"},
    },
    ("{out}/b.csv", "{m}"),
    {"--llama-dir": ("{out}/b.csv", "{hf}")},
)


@pytest.mark.parametrize("check", checks(VERIFY.effects) + checks(INSPECT.effects) + checks(DATASET.effects))
def test_it_has_an_effect(check: Effect, place: Place) -> None:
    check(place)
